//! The settings of a command: its flags, the environment and the `runner.toml` beside the manifest.

use std::path::Path;

use super::command_error::CommandError;
use super::console::{style, warn};
use crate::error::Exit;
use crate::settings::{Partial, Settings, SettingsError};

/// Returns the settings for a manifest. If `runner.toml` is ignored, the build of the command warns of it by an event.
pub fn settings(flags: Partial, manifest: &Path) -> Result<Settings, CommandError> {
    let directory = manifest.parent().unwrap_or(Path::new(""));
    let report = |error: SettingsError| CommandError::Report(Exit::Usage, error.render(style()));
    Settings::resolve(flags, |name| std::env::var_os(name), directory).map_err(report)
}

/// Returns the settings for a manifest, for a command without events: warns on standard error if `runner.toml` is ignored.
pub fn settings_with_warning(flags: Partial, manifest: &Path) -> Result<Settings, CommandError> {
    let settings = settings(flags, manifest)?;
    if let Some(warning) = &settings.ignored {
        warn(warning);
    }
    Ok(settings)
}
