//! `runner store ls`: the layers.

use std::time::SystemTime;

use serde_json::json;

use super::shown::{Known, ago, origin, short, table};
use super::{Place, print_json};
use crate::command::{Stop, print};
use crate::report::size;

/// Lists the layers, the one used last first.
pub fn ls(place: &Place, as_json: bool) -> Result<(), Stop> {
    let known = place.store.as_ref().map(Known::read).transpose()?;
    let total = known.as_ref().map_or(0, |known| known.inventory.size());
    let layers = known.as_ref().map(Known::layers).unwrap_or_default();
    if as_json {
        let layers: Vec<_> =
            known.iter().flat_map(|known| layers.iter().map(|(digest, layer)| known.json(digest, layer))).collect();
        return print_json(&json!({ "store": place.path.display().to_string(), "size": total, "layers": layers }));
    }
    let Some(known) = known.as_ref().filter(|_| !layers.is_empty()) else {
        return print(format!("no layers in {}\n", place.path.display()).as_bytes());
    };
    let now = SystemTime::now();
    let mut rows =
        vec![["LAYER", "SIZE", "BUILT", "USED", "BUILD/CONTAINER/STEP", "KEPT BY"].map(String::from).to_vec()];
    for (digest, layer) in &layers {
        let giving = known.inventory.giving(digest);
        let by = giving.first().map_or("-".to_owned(), |(_, record)| origin(record));
        let more = giving.len().saturating_sub(1);
        let written = known.written(digest, layer).and_then(|text| humantime::parse_rfc3339(&text).ok());
        rows.push(vec![
            short(digest),
            size(layer.size),
            written.map_or("-".to_owned(), |written| ago(written, now)),
            known.used.get(*digest).map_or("-".to_owned(), |used| ago(*used, now)),
            if more == 0 { by } else { format!("{by} +{more}") },
            known.kept_by(digest).join(", "),
        ]);
    }
    let count = layers.len();
    let total = format!("{count} {}, {}\n", if count == 1 { "layer" } else { "layers" }, size(total));
    print((table(&rows) + &total).as_bytes())
}
