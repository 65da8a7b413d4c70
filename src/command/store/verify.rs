//! `runner store verify`: reads all layers, and moves the damaged ones aside.

use serde_json::json;

use super::location::StoreLocation;
use crate::command::command_error::CommandError;
use crate::command::command_error::store_error;
use crate::command::console::print;
use crate::command::console::print_json;
use crate::error::Exit;
use crate::report::sanitize;
use crate::store::Damage;

/// Checks the store; ends with [`Exit::Mismatch`] if something is damaged.
pub fn verify(location: &StoreLocation, as_json: bool) -> Result<(), CommandError> {
    let (mut damages, mut layers) = (Vec::new(), 0);
    if let Some(store) = &location.store {
        let inventory = store.inventory().map_err(store_error)?;
        layers = inventory.layers.len();
        damages = store.verify(&inventory).map_err(store_error)?;
    }
    if as_json {
        let damaged: Vec<_> = damages
            .iter()
            .map(|damage| match damage {
                Damage::Layer { digest, steps, aside } => {
                    json!({ "kind": "layer", "digest": digest.to_string(), "steps": steps, "set_aside": aside.display().to_string() })
                }
                Damage::Export { digest, steps } => {
                    json!({ "kind": "export", "digest": digest.to_string(), "steps": steps })
                }
                Damage::Record { key } => json!({ "kind": "record", "key": key.to_string() }),
            })
            .collect();
        print_json(&json!({ "layers": layers, "damaged": damaged }))?;
    } else {
        let mut text = String::new();
        for damage in &damages {
            text.push_str(&match damage {
                Damage::Layer { digest, steps, aside } => {
                    let steps =
                        if steps.is_empty() { String::new() } else { format!(" ({})", sanitize(&steps.join(", "))) };
                    format!("damaged: layer {digest}{steps}, set aside as {}\n", aside.display())
                }
                Damage::Export { digest, steps } => {
                    format!("damaged: export {digest} ({}), removed\n", sanitize(&steps.join(", ")))
                }
                Damage::Record { key } => format!("damaged: the record of the key {key}, removed\n"),
            });
        }
        let read = if layers == 1 { "1 layer read".to_owned() } else { format!("{layers} layers read") };
        text.push_str(&match damages.len() {
            0 => format!("{read}: nothing wrong\n"),
            many => format!("{read}: {many} damaged; the next build restores those that it needs\n"),
        });
        print(text.as_bytes())?;
    }
    if damages.is_empty() { Ok(()) } else { Err(Exit::Mismatch.into()) }
}
