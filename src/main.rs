//! The `runner` binary: hands the command line to the library.

use std::process::ExitCode;

use runner::runtime::embedded::{HELPER_ARGUMENT, helper};

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == HELPER_ARGUMENT) {
        return helper::main();
    }
    smoke().unwrap();
    ExitCode::SUCCESS
}

fn smoke() -> Result<(), Box<dyn std::error::Error>> {
    use runner::build::*;
    use runner::session::*;
    use std::sync::Arc;
    use std::time::Instant;
    runner::mount::enter_private_namespace()?;
    std::fs::create_dir_all("/tmp/x/ws")?;
    let t = Instant::now();
    let ws = Workspace::open("/tmp/x/ws".as_ref(), "/tmp/x/disk".as_ref(), "smoke")?;
    let c = Container { name: "c".into(), rootfs: Rootfs::Scratch, hostname: "c".into(), read_only: false, network: Network::None,
        user: User { user: Principal::Id(0), group: None }, cwd: "/".into(), env: Default::default(),
        capabilities: ["CHOWN","DAC_OVERRIDE","FSETID","FOWNER","MKNOD","SETGID","SETUID","SETFCAP","SETPCAP","SYS_CHROOT","KILL","AUDIT_WRITE"].iter().map(|c| c.parse().unwrap()).collect(),
        no_new_privileges: true, mounts: vec![Mount{kind: MountKind::Tmpfs, target: "/a/b".into(), options: vec![]}], devices: vec![], limits: Limits { nofile: 4096, memory: None, millicpus: None, pids: None }, scratch: Scratch::Tmpfs(1<<30) };
    let lower = ws.image("/tmp/x/deb.squashfs".as_ref())?;
    eprintln!("mounted {:?}", t.elapsed());
    let scratch = Arc::new(ws.scratch(c.scratch)?);
    let mut s = Session::prepare(&ws, &c, vec![lower], scratch, |_| Ok("/tmp".into()))?;
    ws.program()?;
    eprintln!("prepared {:?}", t.elapsed());
    s.start()?;
    eprintln!("started {:?}", t.elapsed());
    let cred = s.credentials(&c.user)?;
    let script = std::env::args().nth(1).unwrap_or("id; cat /proc/self/status | grep -i cap; ps ax; ls /; mount; echo hi > /x".into());
    let null = || -> std::os::fd::OwnedFd { std::fs::File::options().read(true).write(true).open("/dev/null").unwrap().into() };
    use std::os::fd::AsFd;
    let p = |argv: Vec<String>| runner::runtime::process::process(&c, runner::runtime::process::Command { argv, env: &Default::default(), cwd: "/".as_ref(), user: &cred, source_date_epoch: None }).unwrap();
    let stdio = runner::runtime::Stdio { stdin: null(), stdout: std::io::stdout().as_fd().try_clone_to_owned()?, stderr: std::io::stderr().as_fd().try_clone_to_owned()? };
    let r = s.run(p(vec!["/bin/sh".into(), "-ec".into(), script]), &stdio)?;
    eprintln!("{:?} {:?}", r.outcome()?, t.elapsed());
    let t2 = Instant::now();
    for _ in 0..200 { assert!(s.run(p(vec!["/bin/true".into()]), &stdio)?.outcome()?.is_success()); }
    eprintln!("a step {:?}", t2.elapsed() / 200);
    let t2 = Instant::now();
    let f = s.freeze()?;
    eprintln!("freeze {:?}", t2.elapsed());
    runner::snapshot::normalise(f.path(), Some(0))?;
    let (r, _w) = std::io::pipe()?;
    runner::snapshot::write_image(f.path(), "/tmp/x/out.squashfs".as_ref(), runner::snapshot::ImageOptions { compression: Compression::Zstd, level: None, source_date_epoch: Some(0) }, r.as_fd())?;
    eprintln!("written {:?}", t2.elapsed());
    s.start()?; 
    eprintln!("restart {:?}", t2.elapsed());
    s.close()?;
    Ok(())
}
