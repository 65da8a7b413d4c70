//! Chooses the faults: from the calls that a clean build makes, spread over all kinds of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::calls::{self, Fault};
use crate::tracer::{Injection, Site};

/// Returns the first and the last of the calls that are alike.
fn some_of_each(sites: &[Site]) -> BTreeSet<Site> {
    let mut alike: BTreeMap<_, Vec<Site>> = BTreeMap::new();
    for site in sites {
        alike.entry((site.role, site.call, site.on.clone())).or_default().push(site.clone());
    }
    alike.into_values().flat_map(|sites| [sites[0].clone(), sites[sites.len() - 1].clone()]).collect()
}

/// Returns that many pairs of a site and one of these faults, no two the same, or all that there are.
///
/// It takes one of each call in turn, so that rare calls are among them as well as frequent ones.
pub fn choose(recorded: &[Site], max_count: usize, is_asked: impl Fn(Fault) -> bool) -> Vec<Injection> {
    let mut by_call: BTreeMap<&str, Vec<Site>> = BTreeMap::new();
    for site in some_of_each(recorded) {
        by_call.entry(site.call).or_default().push(site);
    }
    let every = |(call, sites): (&str, Vec<Site>)| {
        let faults: Vec<Fault> = calls::faults(call).chain([Fault::Kill]).filter(|fault| is_asked(*fault)).collect();
        every(&sites, &faults)
    };
    let mut queues: Vec<VecDeque<Injection>> = by_call.into_iter().map(every).collect();
    let mut chosen = Vec::new();
    while chosen.len() < max_count && queues.iter().any(|queue| !queue.is_empty()) {
        chosen.extend(queues.iter_mut().filter_map(VecDeque::pop_front));
    }
    chosen.truncate(max_count);
    chosen
}

/// Returns these faults at all sites of a call: first one fault for each site, and then the others.
fn every(sites: &[Site], faults: &[Fault]) -> VecDeque<Injection> {
    let mut all = VecDeque::new();
    for turn in 0..faults.len() {
        for (number, site) in sites.iter().enumerate() {
            all.push_back(Injection { site: site.clone(), fault: faults[(number + turn) % faults.len()] });
        }
    }
    all
}
