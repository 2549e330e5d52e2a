//! The status page, in a real browser; and the same in a terminal.

use crate::bench::Bench;
use std::fs;
use std::process::Command;

#[test]
fn the_page_shows_what_comes_fails_and_goes_and_no_name_can_run_a_script() {
    let mut bench = Bench::new().lane("directories = [\"[0-9]*-*\"]");
    // The plots of an earlier run.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let minute =
        |age: u64| format!("{{\"at\":{},\"used_percent\":40,\"bytes_per_second\":{}}}", now - age * 60, age);
    let minutes: Vec<String> = (1..100).rev().map(minute).collect();
    fs::create_dir_all(bench.path("state")).unwrap();
    fs::write(bench.path("state/history.json"), format!("[{}]", minutes.join(","))).unwrap();
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    bench.start_with(&[("DRONEKEEPER__ADMIN__LISTEN", &format!("127.0.0.1:{port}"))]);
    bench.wait_until_said("console listens");
    let looked = Command::new("python3")
        .args(["tests/page.py", &format!("http://127.0.0.1:{port}")])
        .arg(bench.dir.path())
        .output()
        .unwrap();
    let (said, faults) = (String::from_utf8_lossy(&looked.stdout), String::from_utf8_lossy(&looked.stderr));
    assert!(looked.status.success(), "{said}{faults}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), 3, "{said}");
}

#[test]
fn top_shows_the_drone_in_a_terminal_and_leaves_it_as_it_was() {
    let mut bench = Bench::new();
    let config = bench.write_config();
    let no_terminal = bench.tell(&["top"]);
    assert!(String::from_utf8_lossy(&no_terminal.stderr).contains("needs a terminal"));
    bench.start();
    bench.wait_until_said("console listens");
    // A pseudo-terminal of python's, in which `q` is pressed when the screen is there.
    let look = "import os, pty, sys, time\n\
        seen = b''\n\
        def read(fd):\n  global seen\n  data = os.read(fd, 65536)\n  seen += data\n  return data\n\
        pid, fd = pty.fork()\n\
        if pid == 0: os.execv(sys.argv[1], sys.argv[1:])\n\
        import fcntl, struct, termios\n\
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 40, 120, 0, 0))\n\
        while b'scanner' not in seen: read(fd)\n\
        os.write(fd, b'q')\n\
        try:\n  while read(fd): pass\n\
        except OSError: pass\n\
        _, status = os.waitpid(pid, 0)\n\
        left = seen.rfind(b'\\x1b[?1049l') > seen.rfind(b'\\x1b[?1049h') >= 0\n\
        print(os.waitstatus_to_exitcode(status), left, b'root/offload/lanes/jobs' in seen)\n";
    let look = look.replace("        ", "");
    let done = Command::new("timeout")
        .args(["60", "python3", "-c", &look, env!("CARGO_BIN_EXE_dronekeeper"), "-c"])
        .arg(config)
        .arg("top")
        .output()
        .unwrap();
    let (said, faults) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert_eq!(said.trim(), "0 True True", "{faults}");
}
