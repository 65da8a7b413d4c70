//! Mounts of the caller's SSH agent: steps list its keys and sign with them, and do nothing else.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::built::{Built, Running, names_in, project, wait_for};
use crate::project::Project;

const MANIFEST: &str = r#"
mounts: { key: { type: bind, source: keys/key.pub, target: /key.pub, options: [ro] } }
containers:
  c: { rootfs: { programs: [/bin/sh, /bin/cat, /bin/ls, /bin/mkdir, /usr/bin/stat, /usr/bin/ssh-add, /usr/bin/ssh-keygen] } }
steps:
  - { name: users, run: 'mkdir -p /etc; echo root:x:0:0::/:/bin/sh > /etc/passwd; echo me:x:1000:1000::/:/bin/sh >> /etc/passwd' }
  - name: sign
    mounts: [{ type: ssh }, key]
    run: |
      echo $SSH_AUTH_SOCK; stat -c '%F %a %u' $SSH_AUTH_SOCK; ssh-add -l
      for forbidden in -D -x; do echo pass | SSH_ASKPASS_REQUIRE=never ssh-add $forbidden < /dev/null 2> /dev/null && exit 1; done
      echo data > /data; ssh-keygen -q -Y sign -f /key.pub -n file /data; cat /data.sig
  - { name: user, user: 1000, mounts: [{ type: ssh, target: /here/agent, options: [mode=0660] }], run: 'stat -c "%a %u" /here/agent; ssh-add -l' }
  - { name: without, run: 'echo ${SSH_AUTH_SOCK-none}; ls /run /here 2>&1 || true' }
  - { name: layer, snapshot: { output: layer.squashfs } }
"#;

struct Agent(Child, PathBuf);

impl Agent {
    /// Starts an agent that has the project's key.
    fn start(project: &Project, name: &str) -> Self {
        let socket = project.path(name);
        let mut command = Command::new("ssh-agent");
        let child = command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        wait_for("the agent", || UnixStream::connect(&socket).ok());
        let agent = Self(child, socket);
        project.script(&format!("SSH_AUTH_SOCK={} ssh-add -q keys/key", agent.1.display()));
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn built(project: &Project, agent: Option<&Agent>, arguments: &[&str]) -> Built {
    let mut command = project.command(&[&["apply", "--progress", "json"], arguments].concat());
    command.env_remove("SSH_AUTH_SOCK");
    if let Some(agent) = agent {
        command.env("SSH_AUTH_SOCK", &agent.1);
    }
    Running::spawn(command).end()
}

fn with_key() -> Project {
    let project = project(MANIFEST);
    project.script("mkdir keys; ssh-keygen -q -t ed25519 -N '' -C runner-test -f keys/key");
    project
}

#[test]
fn steps_of_any_user_sign_with_the_callers_agent_and_change_nothing_in_it() {
    let project = with_key();
    let agent = Agent::start(&project, "agent");
    let first = built(&project, Some(&agent), &[]);
    assert_eq!(first.run.code, 0, "{}\n{}", first.run, first.text("sign"));
    let sign = first.lines("sign");
    assert_eq!(sign[..2], ["/run/ssh-agent.sock", "socket 600 0"], "{sign:?}");
    assert!(
        sign[2].contains("runner-test (ED25519)") && first.text("sign").contains("BEGIN SSH SIGNATURE"),
        "{sign:?}"
    );
    let user = first.lines("user");
    assert!(user[0] == "660 1000" && user[1].contains("runner-test"), "{user:?}");
    let without = first.text("without");
    assert!(without.starts_with("none\n") && without.contains("'/run'") && without.contains("'/here'"), "{without}");
    let names = names_in(&project.path("layer.squashfs"));
    assert!(names.contains(&"/data.sig".to_owned()) && !names.iter().any(|name| name.contains("agent")), "{names:?}");
    let keys = project.script(&format!("SSH_AUTH_SOCK={} ssh-add -l", agent.1.display()));
    assert!(keys.contains("runner-test"), "{keys}");
    assert_eq!(project.leftovers(first.run.pid), Vec::<String>::new());
    // Another agent, or none, changes no key.
    let other = Agent::start(&project, "other");
    for agent in [Some(&other), None] {
        let again = built(&project, agent, &[]);
        assert!(again.run.code == 0 && again.all("step_finished").iter().all(|event| event["status"] == "cached"));
    }
}

#[test]
fn without_an_agent_that_answers_no_step_begins() {
    let project = with_key();
    let refused = built(&project, None, &[]);
    assert_eq!((refused.run.code, refused.run.stdout.as_str()), (2, ""), "{}", refused.run);
    let text = refused.run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("`SSH_AUTH_SOCK` is not set") && text.contains("sudo passes it on with"), "{text}");
    let agent = Agent::start(&project, "agent");
    let socket = agent.1.clone();
    drop(agent);
    fs::remove_file(&socket).ok();
    drop(UnixListener::bind(&socket).unwrap());
    let text = MANIFEST.replace("{ type: ssh }", "{ type: ssh, source: agent }");
    project.write("build.yaml", &format!("version: 1\n{text}"));
    let other = Agent::start(&project, "other");
    let refused = built(&project, Some(&other), &[]);
    assert_eq!((refused.run.code, refused.run.stdout.as_str()), (2, ""), "{}", refused.run);
    assert!(refused.run.stderr.contains("no SSH agent listens on"), "{}", refused.run);
    // Steps that need none run.
    assert_eq!(built(&project, None, &["--target", "users"]).run.code, 0);
}

also_with_runc! {
    steps_of_any_user_sign_with_the_callers_agent_and_change_nothing_in_it,
}
