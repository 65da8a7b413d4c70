//! Names the key that gives inode numbers which old 32-bit programs can store.

use super::Failed;
use crate::model::Container;

/// EOVERFLOW of stat(2) and readdir(3), in the words of the C library.
const TOO_LARGE: &[&str] = &["value too large for defined data type"];

/// Returns the hint, where the container does not have the key already.
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
    use super::super::fixture::{TestSession, container, hinted};

    #[test]
    fn an_inode_number_that_is_too_large_gives_the_hint_xino() {
        let mut container = container(&[]);
        let printed = "ld: cannot stat /usr/lib/crt1.o: Value too large for defined data type";
        let hint = hinted(&container, 0, printed, &TestSession::default()).unwrap();
        assert!(hint.contains("`xino: false` in container "), "{hint}");
        assert_eq!(hinted(&container, 0, "value too large", &TestSession::default()), None);
        container.xino = false;
        assert_eq!(hinted(&container, 0, printed, &TestSession::default()), None);
    }
}
