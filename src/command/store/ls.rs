//! `runner store ls`: the list of layers.

use std::time::SystemTime;

use serde_json::json;

use super::location::StoreLocation;
use super::shown::{StoreFacts, origin};
use crate::command::command_error::CommandError;
use crate::command::command_error::store_error;
use crate::command::console::print_json;
use crate::command::console::{columns, print};
use crate::report::listing::{ago, short, table_or_blocks};
use crate::report::size;
use crate::store::Store;

/// Lists the layers, chain by chain.
pub fn ls(location: &StoreLocation, as_json: bool) -> Result<(), CommandError> {
    let facts = location.store.as_ref().map(StoreFacts::read).transpose()?;
    let total = facts.as_ref().map_or(0, |facts| facts.inventory.size());
    let layers = facts.as_ref().map(StoreFacts::layers).unwrap_or_default();
    if as_json {
        let layers: Vec<_> =
            facts.iter().flat_map(|facts| layers.iter().map(|(digest, layer)| facts.json(digest, layer))).collect();
        return print_json(&json!({ "store": location.path.display().to_string(), "size": total, "layers": layers }));
    }
    let Some(facts) = facts.as_ref().filter(|_| !layers.is_empty()) else {
        return print(format!("no layers in {}\n", location.path.display()).as_bytes());
    };
    let now = SystemTime::now();
    let mut rows = Vec::new();
    for (digest, layer) in &layers {
        let giving = facts.inventory.giving(digest);
        let by = giving.first().map_or("-".to_owned(), |(_, record)| origin(record));
        let more = giving.len().saturating_sub(1);
        let written = facts.written(digest, layer).and_then(|text| humantime::parse_rfc3339(&text).ok());
        rows.push(vec![
            short(digest),
            size(layer.size),
            written.map_or("-".to_owned(), |written| ago(written, now)),
            facts.used.get(*digest).map_or("-".to_owned(), |used| ago(*used, now)),
            if more == 0 { by } else { format!("{by} +{more}") },
            facts.keep_reasons(digest).join(", "),
        ]);
    }
    let count = layers.len();
    let failed = location.store.as_ref().map_or(Ok(0), Store::failed_size).map_err(store_error)?;
    let failed = match failed {
        0 => String::new(),
        bytes => format!("; sessions of failed steps, {}", size(bytes)),
    };
    let exports = match facts.inventory.exports().values().sum() {
        0 => String::new(),
        bytes => format!("; exports, {}", size(bytes)),
    };
    let total = format!("{count} {}, {}{exports}{failed}\n", if count == 1 { "layer" } else { "layers" }, size(total));
    let header = ["LAYER", "SIZE", "BUILT", "USED", "BUILD/CONTAINER/STEP", "NEEDED BY"];
    print((table_or_blocks(&header, rows, columns(), block) + &total).as_bytes())
}

/// Returns the row of a layer as a few short lines.
fn block(row: &[String]) -> String {
    let [layer, size, built, used, by, needed_by] = row else { return row.join("  ") + "\n" };
    let needed_by = if needed_by.is_empty() { String::new() } else { format!("  needed by {needed_by}\n") };
    format!("{layer}  {size}\n  {by}\n  built {built}, used {used}\n{needed_by}")
}

#[cfg(test)]
mod tests {
    use super::block;

    #[test]
    fn the_block_of_a_layer_lists_the_reasons_to_keep_it_if_there_are_any() {
        let row = |needed_by: &str| {
            ["5e5ad39b92a4", "8.6 MiB", "2h ago", "1m ago", "sdk/base/layer", needed_by].map(String::from)
        };
        let block_of_unused = "5e5ad39b92a4  8.6 MiB\n  sdk/base/layer\n  built 2h ago, used 1m ago\n";
        assert_eq!(block(&row("")), block_of_unused);
        assert_eq!(block(&row("1 layer above")), format!("{block_of_unused}  needed by 1 layer above\n"));
    }
}
