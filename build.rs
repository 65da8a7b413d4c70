//! Compiles the init of the embedded runtime's sessions: a program without libc, for the same target.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=src/init");
    let variable = |name: &str| env::var(name).map_err(|error| format!("cargo sets no usable {name}: {error}"));
    let target = variable("TARGET")?;
    let architecture = variable("CARGO_CFG_TARGET_ARCH")?;
    if !["x86_64", "aarch64"].contains(&architecture.as_str()) {
        return Err(format!(
            "runner's init makes its own system calls, and knows x86_64 and aarch64, not {architecture}"
        ));
    }
    let program = Path::new(&variable("OUT_DIR")?).join("init");
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc.args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "init", "--target", &target]);
    // The linker that cargo is configured with for this target, if there is one.
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    for option in ["panic=abort", "opt-level=s", "relocation-model=static", "strip=symbols", "overflow-checks=on"] {
        rustc.arg(format!("-C{option}"));
    }
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-Wl,--build-id=none", "-Wl,-z,norelro"] {
        rustc.arg(format!("-Clink-arg={argument}"));
    }
    let compiled = rustc.arg("-o").arg(&program).arg("src/init/main.rs").status();
    match compiled {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cannot compile src/init/main.rs: rustc ended with {status}")),
        Err(error) => Err(format!("cannot start rustc: {error}")),
    }
}
