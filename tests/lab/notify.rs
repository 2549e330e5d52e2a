//! Other programs are told of each offloaded job, at least once, and whether they listen changes nothing for it.

use crate::bench::Bench;
use serde_json::{Value, json};
use stage::{Visit, Web};
use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// A listener that remembers what it was told, and answers as the test says.
struct Listener {
    visits: Arc<Mutex<Vec<Visit>>>,
    reply: Arc<Mutex<(u16, String)>>,
    web: Web,
}

impl Listener {
    fn start(status: u16, text: &str) -> Self {
        let visits = Arc::new(Mutex::new(Vec::new()));
        let reply = Arc::new(Mutex::new((status, text.to_owned())));
        let (seen, says) = (visits.clone(), reply.clone());
        let web = Web::start(move |visit: Visit| {
            seen.lock().unwrap().push(visit);
            let reply = says.lock().unwrap().clone();
            async move { reply }
        });
        Listener { visits, reply, web }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.web.address())
    }

    fn heard(&self) -> Vec<Value> {
        self.visits
            .lock()
            .unwrap()
            .iter()
            .filter_map(|visit| serde_json::from_slice(&visit.body).ok())
            .collect()
    }
}

#[test]
fn a_webhook_is_told_once_of_each_job_also_after_it_was_down_and_the_drone_was_killed() {
    let listener = Listener::start(503, "later");
    let token = "hook.token";
    let mut bench = Bench::new();
    fs::write(bench.path(token), "s3cret\n").unwrap();
    bench = bench.extra(&format!(
        "[[notify]]\nurl = \"{}\"\ntoken_file = \"{token}\"\nattributes = {{ site = \"lab-7\" }}",
        listener.url("offloaded")
    ));
    bench.finished(&["101-a", "102-b"]);
    bench.start();
    // Nobody takes the notices; the jobs go all the same.
    bench.wait_until_gone("101-a");
    bench.wait_until_gone("102-b");
    bench.wait("it is told", || !listener.heard().is_empty());
    bench.kill();
    listener.visits.lock().unwrap().clear();
    *listener.reply.lock().unwrap() = (200, String::new());
    bench.start();
    bench.wait("both are told", || bench.said("told notice=") == 2);
    bench.finished(&["103-c"]);
    bench.wait("the third is told", || bench.said("told notice=") == 3);
    assert_eq!(bench.stop(), Some(0));
    let heard = listener.heard();
    let mut jobs: Vec<&str> = heard.iter().map(|told| told["job"].as_str().unwrap()).collect();
    jobs.sort_unstable();
    assert_eq!(jobs, ["101-a", "102-b", "103-c"]);
    for told in &heard {
        assert_eq!((&told["event"], &told["drone"]), (&json!("offloaded"), &json!("bench")));
        assert_eq!((&told["files"], &told["attributes"]["site"]), (&json!(4), &json!("lab-7")));
        let uri = format!("file://{}/{}", bench.path("offloaded").display(), told["job"].as_str().unwrap());
        assert_eq!(told["uri"], json!(uri));
    }
    let visits = listener.visits.lock().unwrap().clone();
    for (visit, told) in visits.iter().zip(&heard) {
        assert_eq!(visit.header("authorization"), "Bearer s3cret");
        assert_eq!(visit.header("idempotency-key"), told["id"].as_str().unwrap());
    }
    // A start tells nothing again.
    bench.start();
    bench.finished(&["104-d"]);
    bench.wait("the fourth is told", || bench.said("told notice=") == 4);
    assert_eq!(listener.heard().len(), 4);
}

#[test]
fn what_waits_to_be_told_outlives_the_ledger() {
    let listener = Listener::start(500, "");
    let mut bench = Bench::new().extra(&format!("[[notify]]\nurl = \"{}\"", listener.url("x")));
    bench.finished(&["101-a"]);
    bench.start();
    bench.wait_until_gone("101-a");
    bench.wait("it is told", || !listener.heard().is_empty());
    fs::write(bench.path("state/ledger.sqlite"), b"").unwrap();
    bench.wait_until_said("ledger damaged");
    let notices = || {
        let show = Command::new("python3")
            .args(["-c", "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM notices').fetchone()[0])"])
            .arg(bench.path("state/ledger.sqlite"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&show.stdout).trim().to_owned()
    };
    bench.wait("the new ledger has it", || notices() == "1");
    *listener.reply.lock().unwrap() = (204, String::new());
    bench.wait("it is told", || bench.said("told notice=") == 1);
    bench.wait("the ledger forgets it", || notices() == "0");
}

/// Is this a token request that the key of `bench` signed? Answers with its claims.
fn claims(bench: &Bench, visit: &Visit) -> Value {
    let form: Vec<(String, String)> = String::from_utf8_lossy(&visit.body)
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.replace("%3A", ":").replace("%2D", "-")))
        .collect();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).unwrap().1.clone();
    assert_eq!(field("grant_type"), "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let assertion = field("assertion");
    let check = "import base64, subprocess, sys\n\
        head, claims, signature = sys.argv[1].split('.')\n\
        plain = lambda text: base64.urlsafe_b64decode(text + '=' * (-len(text) % 4))\n\
        open('said', 'w').write(head + '.' + claims)\n\
        open('signature', 'wb').write(plain(signature))\n\
        subprocess.run(['openssl', 'dgst', '-sha256', '-verify', 'public.pem', '-signature', 'signature', 'said'], \
        check=True, stdout=sys.stderr)\n\
        print(plain(claims).decode())";
    let checked = Command::new("python3")
        .args(["-c", check, &assertion])
        .current_dir(bench.dir.path())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    serde_json::from_slice(&checked.stdout).unwrap()
}

#[test]
fn pubsub_gets_the_old_offloaders_payload_with_a_token_of_the_service_account() {
    let google = Listener::start(200, "");
    let topic = Listener::start(200, "{}");
    *google.reply.lock().unwrap() = (200, json!({"access_token": "ya29.x", "expires_in": 3599}).to_string());
    let mut bench = Bench::new();
    let dir = bench.dir.path().to_owned();
    let openssl = |arguments: &[&str]| {
        let done = Command::new("openssl").args(arguments).current_dir(&dir).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "private.pem"]);
    openssl(&["pkey", "-in", "private.pem", "-pubout", "-out", "public.pem"]);
    let account = json!({
        "type": "service_account", "client_email": "moblab@x.iam.gserviceaccount.com",
        "private_key": fs::read_to_string(bench.path("private.pem")).unwrap(), "token_uri": google.url("token"),
    });
    fs::write(bench.path("account.json"), account.to_string()).unwrap();
    let account = bench.path("account.json");
    bench = bench.extra(&format!(
        "[[notify]]\nurl = \"{}\"\nkind = \"pubsub\"\naccount_file = {account:?}\n\
         attributes = {{ moblab_mac_address = \"8c:dc:d4:56:06:b7\", moblab_id = \"c6f1\" }}",
        topic.url("v1/projects/p/topics/t:publish"),
    ));
    bench.finished(&["101-a"]);
    bench.start();
    // A success without a message id is none.
    bench.wait_until_said("without a message id");
    *topic.reply.lock().unwrap() = (200, json!({"messageIds": ["1"]}).to_string());
    bench.wait("it is told", || bench.said("told notice=") == 1);
    let visit = topic.visits.lock().unwrap().last().unwrap().clone();
    assert_eq!(visit.target, "/v1/projects/p/topics/t:publish");
    assert_eq!(visit.header("authorization"), "Bearer ya29.x");
    let uri = format!("file://{}/101-a", bench.path("offloaded").display());
    let attributes = json!({
        "version": "1", "moblab_mac_address": "8c:dc:d4:56:06:b7", "moblab_id": "c6f1", "gcs_uri": uri,
    });
    let expected = json!({ "messages": [{ "data": "TkVXX1RFU1RfUkVTVUxU", "attributes": attributes }] });
    assert_eq!(serde_json::from_slice::<Value>(&visit.body).unwrap(), expected);
    let asked = google.visits.lock().unwrap().clone();
    assert_eq!(asked.len(), 1, "a token that is good is used again");
    let claims = claims(&bench, &asked[0]);
    assert_eq!(claims["iss"], "moblab@x.iam.gserviceaccount.com");
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/pubsub");
    assert_eq!(claims["aud"], json!(google.url("token")));
}

#[test]
fn an_account_that_is_none_is_said_at_the_start() {
    for (text, said) in [("{}", "client_email"), ("not json", "client_email")] {
        let bench = Bench::new();
        fs::write(bench.path("account.json"), text).unwrap();
        let bench = bench.extra(
            "[[notify]]\nurl = \"http://127.0.0.1:9/\"\nkind = \"pubsub\"\naccount_file = \"account.json\"",
        );
        let run = bench.tell(&["run"]);
        assert_eq!(run.status.code(), Some(78));
        let output = [run.stdout, run.stderr].concat();
        assert!(String::from_utf8_lossy(&output).contains(said), "{}", String::from_utf8_lossy(&output));
    }
}
