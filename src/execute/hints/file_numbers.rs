//! Names the key that gives inode numbers which old 32-bit programs can hold.

use super::Failed;
use crate::model::Container;

/// EOVERFLOW of stat(2) and readdir(3), as the C library says it.
const TOO_LARGE: &[&str] = &["value too large for defined data type"];

/// The key, where the container does not have it already.
pub(super) fn hint(container: &Container, failed: Failed<'_>) -> Option<String> {
    failed.lines(TOO_LARGE).next()?;
    container.xino.then(|| {
        format!(
            "inode numbers of the root are larger than 32 bits, and a program built without large-file support may not read \
             them; `xino: false` in container {} gives smaller ones",
            container.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Found, container, hinted};

    #[test]
    fn a_number_that_is_too_large_for_a_program_names_the_key() {
        let mut container = container(&[]);
        let printed = "ld: cannot stat /usr/lib/crt1.o: Value too large for defined data type";
        let hint = hinted(&container, 0, printed, &Found::default()).unwrap();
        assert!(hint.contains("`xino: false` in container "), "{hint}");
        assert_eq!(hinted(&container, 0, "value too large", &Found::default()), None);
        container.xino = false;
        assert_eq!(hinted(&container, 0, printed, &Found::default()), None);
    }
}
