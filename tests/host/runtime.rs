//! The runtime of a test: the embedded one, or runc where a file lists the test in `also_with_runc!`.
//!
//! A test runs with runc too where its result can depend on the runtime: where it looks at processes, mounts, devices, limits,
//! streams or signals inside a container, at the end of a step, or at the leftovers of a killed container. Tests of keys, of the
//! store, of images and of reports do not: these are above both runtimes.

use std::cell::Cell;

thread_local! {
    /// A test runs on a thread of its own, so the tests of both runtimes can run at the same time.
    static RUNTIME: Cell<&'static str> = const { Cell::new("embedded") };
}

/// Returns the runtime of this test. The threads that a test starts cannot read it: they make no project.
pub fn runtime() -> &'static str {
    assert!(std::thread::current().name().is_some(), "only the thread of the test itself knows the runtime");
    RUNTIME.get()
}

/// Runs a test with runc.
pub fn with_runc(test: fn()) {
    /// Where one thread runs all tests, the next one begins with the embedded runtime, however this one ends.
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            RUNTIME.set("embedded");
        }
    }
    let _reset = Reset;
    RUNTIME.set("runc");
    test();
}

/// Makes these tests of a file run with runc too, as `FILE::with_runc::TEST`.
macro_rules! also_with_runc {
    ($($test:ident),+ $(,)?) => {
        mod with_runc {
            $(
                #[test]
                fn $test() {
                    crate::runtime::with_runc(super::$test);
                }
            )+
        }
    };
}
