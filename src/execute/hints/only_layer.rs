//! Names the list of layers, where the only image of a root is itself a layer without the images below it.

use std::path::Path;

use super::SessionFacts;
use crate::model::{Container, Rootfs};

/// The shells of which a complete root has one.
const SHELLS: [&str; 3] = ["/bin/sh", "/usr/bin/sh", "/bin/busybox"];

/// Returns the hint to list the images below, if the root appears to be only a layer: it removes files that no image
/// below has, or the step found no program and there is no shell either.
pub fn hint(container: &Container, no_program: bool, inside: &impl SessionFacts) -> Option<String> {
    let Rootfs::Squashfs(layers) = &container.rootfs else { return None };
    let [image] = layers.as_slice() else { return None };
    let why = if inside.lowest_layer_deletes() {
        "removes files of an image below it"
    } else if no_program && SHELLS.iter().all(|shell| inside.file(Path::new(shell)).is_none()) {
        "has no /bin/sh"
    } else {
        return None;
    };
    let image = &image.path;
    let name = image.file_name().unwrap_or_default().display();
    Some(format!(
        "{} {why}: it may be only a layer; in container {}, list the images below it before it, as in \
         `rootfs: {{squashfs: [base.squashfs, {name}]}}`",
        image.display(),
        container.name
    ))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{TestSession, container};
    use super::*;

    #[test]
    fn a_single_image_that_deletes_files_or_has_no_shell_gets_the_hint_to_list_layers() {
        let mut container = container(&[]);
        let (bare, deletes) = (TestSession::default(), TestSession { deletes: true, ..TestSession::default() });
        assert_eq!(hint(&container, true, &deletes), None, "another rootfs");
        container.rootfs = Rootfs::Squashfs(vec!["/work/out/sdk.squashfs".into()]);
        let advice = hint(&container, true, &bare).unwrap();
        assert!(advice.starts_with("/work/out/sdk.squashfs has no /bin/sh: it may be only a layer; "), "{advice}");
        assert!(advice.ends_with("`rootfs: {squashfs: [base.squashfs, sdk.squashfs]}`"), "{advice}");
        assert_eq!(hint(&container, false, &bare), None, "a program was found");
        assert_eq!(hint(&container, true, &TestSession::default().file("/usr/bin/sh", 0o100_755, (0, 0))), None);
        let advice = hint(&container, false, &deletes).unwrap();
        assert!(advice.contains("sdk.squashfs removes files of an image below it"), "{advice}");
        container.rootfs = Rootfs::Squashfs(vec!["/a".into(), "/b".into()]);
        assert_eq!(hint(&container, true, &deletes), None, "a list");
    }
}
