//! `runner store ls`: the layers.

use std::time::SystemTime;

use serde_json::json;

use super::place::Place;
use super::shown::{Known, ago, origin, short, table};
use crate::columns::width;
use crate::command::command_error::CommandError;
use crate::command::command_error::store_error;
use crate::command::console::print_json;
use crate::command::console::{columns, print};
use crate::report::size;
use crate::store::Store;

/// Lists the layers, chain by chain.
pub fn ls(place: &Place, as_json: bool) -> Result<(), CommandError> {
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
    let failed = place.store.as_ref().map_or(Ok(0), Store::failed_size).map_err(store_error)?;
    let failed = match failed {
        0 => String::new(),
        bytes => format!("; sessions of failed steps, {}", size(bytes)),
    };
    let total = format!("{count} {}, {}{failed}\n", if count == 1 { "layer" } else { "layers" }, size(total));
    let table = table(&rows);
    let has_room = columns().is_none_or(|columns| table.lines().all(|line| width(line) <= columns));
    let listed = if has_room { table } else { blocks(&rows[1..]) };
    print((listed + &total).as_bytes())
}

/// A few lines a layer, for terminals that have no room for all of it beside each other.
fn blocks(rows: &[Vec<String>]) -> String {
    let block = |row: &Vec<String>| {
        let [layer, size, built, used, by, kept] = row.as_slice() else { return row.join("  ") + "\n" };
        let kept = if kept.is_empty() { String::new() } else { format!("  kept by {kept}\n") };
        format!("{layer}  {size}\n  {by}\n  built {built}, used {used}\n{kept}")
    };
    rows.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::blocks;

    #[test]
    fn a_layer_without_room_for_a_line_has_a_few() {
        let row = |kept: &str| {
            ["5e5ad39b92a4", "8.6 MiB", "2h ago", "1m ago", "sdk/base/layer", kept].map(String::from).to_vec()
        };
        assert_eq!(
            blocks(&[row(""), row("1 layer above")]),
            "5e5ad39b92a4  8.6 MiB\n  sdk/base/layer\n  built 2h ago, used 1m ago\n\
             5e5ad39b92a4  8.6 MiB\n  sdk/base/layer\n  built 2h ago, used 1m ago\n  kept by 1 layer above\n"
        );
    }
}
