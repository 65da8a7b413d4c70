//! Names the list of layers, where the one image of a root is itself a layer without the images below it.

use std::path::Path;

use super::Inside;
use crate::model::{Container, Rootfs};

/// The shells that a whole root has.
const SHELLS: [&str; 3] = ["/bin/sh", "/usr/bin/sh", "/bin/busybox"];

/// Returns where to list the image below, if the root looks like a layer alone: it removes files that nothing below has, or
/// the step found no program and there is no shell either.
pub fn hint(container: &Container, no_program: bool, inside: &impl Inside) -> Option<String> {
    let Rootfs::Squashfs(layers) = &container.rootfs else { return None };
    let [image] = layers.as_slice() else { return None };
    let why = if inside.lowest_layer_deletes() {
        "removes files of an image below it"
    } else if no_program && SHELLS.iter().all(|shell| inside.file(Path::new(shell)).is_none()) {
        "has no /bin/sh"
    } else {
        return None;
    };
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
    use super::super::fixture::{Found, container};
    use super::*;

    #[test]
    fn one_image_that_deletes_files_or_has_no_shell_gets_the_list_of_layers() {
        let mut container = container(&[]);
        let (bare, deletes) = (Found::default(), Found { deletes: true, ..Found::default() });
        assert_eq!(hint(&container, true, &deletes), None, "another rootfs");
        container.rootfs = Rootfs::Squashfs(vec!["/work/out/sdk.squashfs".into()]);
        let told = hint(&container, true, &bare).unwrap();
        assert!(told.starts_with("/work/out/sdk.squashfs has no /bin/sh: it may be only a layer; "), "{told}");
        assert!(told.ends_with("`rootfs: {squashfs: [base.squashfs, sdk.squashfs]}`"), "{told}");
        assert_eq!(hint(&container, false, &bare), None, "a program was found");
        assert_eq!(hint(&container, true, &Found::default().file("/usr/bin/sh", 0o100_755, (0, 0))), None);
        let told = hint(&container, false, &deletes).unwrap();
        assert!(told.contains("sdk.squashfs removes files of an image below it"), "{told}");
        container.rootfs = Rootfs::Squashfs(vec!["/a".into(), "/b".into()]);
        assert_eq!(hint(&container, true, &deletes), None, "a list");
    }
}
