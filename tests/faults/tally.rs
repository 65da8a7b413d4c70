//! Counts the results of all faults: prints each failure at once, and at the end a table and the totals.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::judge::{Finding, Kind};

/// The counts so far, shared by the threads.
#[derive(Default)]
pub struct Tally(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    /// By the call or the kind of fault.
    by_class: BTreeMap<String, Count>,
    /// Faults whose call was not made.
    not_met: u32,
}

/// How many faults there were, and how many broke which promise.
#[derive(Default, Clone, Copy)]
struct Count {
    injected: u32,
    failed: u32,
    damaged: u32,
    remaining: u32,
    unexplained: u32,
}

impl Tally {
    /// Counts a fault; prints its findings at once, with `shown`, if there are any.
    pub fn add(&self, class: &str, fault: &str, found: Vec<Finding>, shown: impl FnOnce() -> String) {
        let mut counts = self.0.lock().unwrap();
        let count = counts.by_class.entry(class.to_owned()).or_default();
        let has = |kind| u32::from(found.iter().any(|finding| finding.kind == kind));
        count.injected += 1;
        count.failed += u32::from(!found.is_empty());
        count.damaged += has(Kind::Damaged);
        count.remaining += has(Kind::LeftBehind);
        count.unexplained += has(Kind::Unexplained);
        if found.is_empty() {
            return;
        }
        println!("\nFAILED {fault}");
        for finding in &found {
            println!("  {:?}: {}", finding.kind, finding.text);
        }
        println!("{}", shown());
    }

    /// Counts a fault whose call was not made.
    pub fn not_met(&self, fault: &str) {
        println!("never called: {fault}");
        self.0.lock().unwrap().not_met += 1;
    }

    /// Prints the table and the totals; returns whether no fault broke a promise.
    pub fn close(self) -> bool {
        let Counts { by_class, not_met } = self.0.into_inner().unwrap();
        println!("\n{:<18} {:>8} {:>8} {:>8} {:>8}", "fault in", "injected", "damaged", "left", "unexplained");
        let mut all = Count::default();
        for (class, count) in &by_class {
            let Count { injected, failed, damaged, remaining, unexplained } = *count;
            println!("{class:<18} {injected:>8} {damaged:>8} {remaining:>8} {unexplained:>8}");
            all.injected += injected;
            all.failed += failed;
            all.damaged += damaged;
            all.remaining += remaining;
            all.unexplained += unexplained;
        }
        let Count { injected, failed, damaged, remaining, unexplained } = all;
        println!("\n{unexplained} ended wrong, or without the cause in words; {not_met} were never called");
        println!("{injected} faults injected, {damaged} damaged, {remaining} left behind");
        let result = if failed == 0 { "ok" } else { "FAILED" };
        let passed = injected - failed;
        println!("test result: {result}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
        failed == 0
    }
}
