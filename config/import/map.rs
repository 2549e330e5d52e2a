//! Which key of Autotest becomes which of ours.

use super::Imported;
use super::address::{self, is_host};
use super::compliance;
use super::draft::{Draft, Key, from};
use super::ini::{Entry, Ini, space};
use super::left::{self, Fate, Left};
use super::words::word;
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

const NO_HEARTBEAT: &str = "the drone asks the shard's own AFE, so it sends no heartbeats: keep the shard client \
     beside it, or set `hub.url` to the global AFE and remove `heartbeat`";

/// A site on its way: what it says, what we made of it, what is left.
struct Import<'a> {
    site: &'a Ini,
    draft: Draft,
    carried: usize,
    left: Vec<Left>,
    known: BTreeSet<(&'a str, &'a str)>,
}

/// Maps every key that we know; `files` names where they are from.
pub(super) fn map(site: &Ini, files: &str) -> Imported {
    let mut import =
        Import { site, draft: Draft::default(), carried: 0, left: Vec::new(), known: BTreeSet::new() };
    import.drone();
    import.store();
    import.hub();
    import.compliance();
    import.mail();
    import.words();
    let mut others = BTreeMap::new();
    for entry in site.entries() {
        if !import.known.contains(&(entry.section.as_str(), entry.key.as_str())) {
            *others.entry(entry.section.as_str()).or_default() += 1;
        }
    }
    let head = format!(
        "# Made by `dronekeeper import-config` from {files}.\n# To try it beside the old system, write \
         mode = \"shadow\" below [drone]: everything is done but the deleting.\n"
    );
    let toml = head + &import.draft.text() + &left::block(&import.left, &others);
    Imported { toml, carried: import.carried, left: import.left }
}

impl<'a> Import<'a> {
    fn get(&self, section: &str, key: &str) -> Option<&'a Entry> {
        self.site.get(section, key)
    }

    /// The host whose shard this is, if it is one.
    fn shard(&self) -> Option<&'a Entry> {
        self.get("SHARD", "shard_hostname")
    }

    fn leave(&mut self, entry: &'a Entry, fate: Fate, why: &str) {
        if self.known.insert((&entry.section, &entry.key)) {
            self.left.push(Left::new(entry, fate, why));
        }
    }

    fn leave_if(&mut self, entry: Option<&'a Entry>, fate: Fate, why: &str) {
        if let Some(entry) = entry {
            self.leave(entry, fate, why);
        }
    }

    /// Takes keys of ours that are made of some of theirs; if that cannot be, theirs are left. Whether it could.
    fn carry(&mut self, of: &[&'a Entry], keys: Vec<Key>) -> bool {
        let taken = match of.iter().find_map(|entry| unclear(entry)) {
            Some(why) => Err(why.to_owned()),
            None => self.draft.take(keys),
        };
        for entry in of {
            match &taken {
                Ok(()) if self.known.insert((&entry.section, &entry.key)) => self.carried += 1,
                Ok(()) => {}
                Err(why) => self.leave(entry, Fate::ByHand, why),
            }
        }
        taken.is_ok()
    }

    fn drone(&mut self) {
        // Not from the files, and first: with the default the state might lie inside the results.
        let note = "not of the ini files; must outlive a reboot".to_owned();
        let _ = self.draft.take(vec![Key::new("drone", "state_dir", "/var/lib/dronekeeper", note)]);
        if let Some(shard) = self.shard() {
            self.carry(&[shard], vec![Key::new("drone", "name", shard.text(), from(&[shard]))]);
        }
        let results = |dir: &str| format!("{}/results", dir.trim_end_matches('/'));
        let usual = "/usr/local/autotest";
        match self.get("SCHEDULER", "drone_installation_directory") {
            Some(dir) => {
                self.carry(&[dir], vec![Key::new("results", "dir", results(dir.text()), from(&[dir]))]);
            }
            None => {
                let note = "where Autotest has them when no file says otherwise".to_owned();
                let _ = self.draft.take(vec![Key::new("results", "dir", results(usual), note)]);
            }
        }
    }

    fn store(&mut self) {
        let offloading = self.get("CROS", "gs_offloading_enabled");
        let off = offloading.is_some_and(|entry| !entry.truth());
        let bucket = self.get("CROS", "results_storage_server");
        let keys = bucket.and_then(store_keys);
        match (bucket, keys) {
            (Some(bucket), Some(keys)) if off => {
                keys.into_iter().for_each(|key| self.draft.remark(key));
                let why =
                    "gs_offloading_enabled is false, so nothing went there: shown as a comment in `[store]`";
                self.leave(bucket, Fate::ByHand, why);
            }
            (Some(bucket), Some(keys)) => {
                self.carry(&[bucket], keys);
            }
            (Some(bucket), None) => {
                self.leave(
                    bucket,
                    Fate::ByHand,
                    "is no address of a bucket: set `store.url` and `store.prefix`",
                );
            }
            (None, _) => {
                let why = "Moblab stored below `results/` in it, by serial number: set `store.url` and `store.prefix`";
                self.leave_if(self.get("CROS", "image_storage_server"), Fate::ByHand, why);
            }
        }
        self.results_host();
        match offloading {
            Some(entry) if off => {
                let why = "finished results were deleted and stored nowhere; dronekeeper does so only in a lane \
                           whose `delete_only` a person has written";
                self.leave(entry, Fate::ByHand, why);
            }
            Some(entry) => self.leave(entry, Fate::Moot, "offloading is what dronekeeper does"),
            None => {}
        }
        if !self.draft.has("store", "url") {
            let note =
                "no store was carried over: nothing is deleted until a person sets `store.url`".to_owned();
            let _ = self.draft.take(vec![Key::new("drone", "mode", "shadow", note)]);
        }
    }

    /// The host that results were copied to: the store of a site that has no bucket.
    fn results_host(&mut self) {
        let dir = self.get("SCHEDULER", "results_host_installation_directory");
        let Some(host) = self.get("SCHEDULER", "results_host") else {
            self.leave_if(dir, Fate::Moot, "no results_host is set");
            return;
        };
        if ["localhost", "127.0.0.1", "::1"].contains(&host.text()) {
            let why = "results stayed on the machine that ran the tests";
            self.leave(host, Fate::Moot, why);
            self.leave_if(dir, Fate::Moot, why);
            return;
        }
        let user = self.get("SCHEDULER", &format!("{}_username", host.text().to_ascii_lowercase()));
        let of: Vec<&Entry> = [Some(host), user, dir].into_iter().flatten().collect();
        let user = user.map_or(String::new(), |user| format!("{}@", user.text()));
        let root = dir.or(self.get("SCHEDULER", "drone_installation_directory"));
        let root = root.map_or("/usr/local/autotest", Entry::text).trim_end_matches('/');
        let url = format!("rsync://{user}{}{root}/results", host.text());
        if !is_host(host.text()) || !root.starts_with('/') {
            let why =
                "host and directory make no address: where results were copied to has to be seen by hand";
            of.into_iter().for_each(|entry| self.leave(entry, Fate::ByHand, why));
            return;
        }
        let key = |why: &str| Key::new("store", "url", url.as_str(), format!("{}{why}", from(&of)));
        if self.draft.has("store", "url") {
            self.draft
                .remark(key(": results were copied to this host too; a drone has one store, the bucket"));
            let why = "a drone has one store, and the bucket is it: shown as a comment in `[store]`";
            of.iter().for_each(|entry| self.leave(entry, Fate::ByHand, why));
        } else if !self.carry(&of, vec![key("")]) {
            self.draft.remark(key(": for a version that takes rsync://"));
        }
    }

    fn hub(&mut self) {
        let shard = self.shard();
        let heartbeat = if shard.is_some() { Fate::ByHand } else { Fate::Moot };
        let why =
            if shard.is_some() { NO_HEARTBEAT } else { "this machine is no shard and sends no heartbeats" };
        self.leave_if(self.get("SHARD", "heartbeat_pause_sec"), heartbeat, why);
        // Whom the offloader asked: on a shard its own AFE, for the numbers of special tasks are each AFE's own.
        let server = self.get("SERVER", "hostname").or(shard);
        let central = ["SERVER", "SHARD"].map(|section| self.get(section, "global_afe_hostname"));
        let central: Vec<&Entry> = central.into_iter().flatten().collect();
        match server.or_else(|| central.first().copied()) {
            Some(entry) => match address::rpc(entry.text()) {
                Some(url) => {
                    let silent = Key::new("hub", "heartbeat", "0s", "only asks: see below".to_owned());
                    self.carry(&[entry], vec![Key::new("hub", "url", url, from(&[entry])), silent]);
                }
                None => self.leave(entry, Fate::ByHand, "is not the name of a host: set `hub.url`"),
            },
            None => {
                let (usual, why) =
                    ("http://cautotest/afe/server/noauth/rpc/", "no [SERVER] hostname: for example");
                self.draft.remark(Key::new("hub", "url", usual, why.to_owned()));
            }
        }
        for entry in central {
            self.leave(entry, heartbeat, why);
        }
    }

    /// Side uploads and notifications, which the old offloader made only with these keys (reference A6.1, A6.7).
    fn compliance(&mut self) {
        let asked = self.get("CROS", compliance::SERVERS[0].0).is_some();
        for (key, paths) in compliance::SERVERS {
            let Some(entry) = self.get("CROS", key) else { continue };
            match compliance::routes(entry, paths) {
                _ if !asked => self.leave(entry, Fate::Moot, "counted only with cts_results_server"),
                Some(routes) => self.carry_list(entry, "route", routes),
                None => self.leave(entry, Fate::ByHand, "is no address of a bucket: write a `[[route]]`"),
            }
        }
        let enabled = self.get("CROS", "cloud_notification_enabled");
        let Some(topic) = self.get("CROS", "cloud_notification_topic") else {
            let why = "no cloud_notification_topic is set: write a `[[notify]]`";
            let fate = if enabled.is_some_and(Entry::truth) { Fate::ByHand } else { Fate::Moot };
            return self.leave_if(enabled, fate, why);
        };
        match (enabled.filter(|enabled| enabled.truth()), compliance::listener(topic)) {
            (None, _) => {
                self.leave_if(enabled, Fate::Moot, "was off, and is");
                self.leave(topic, Fate::Moot, "notifications were off, and are");
            }
            (Some(enabled), Some(listener)) => {
                self.carry_list(topic, "notify", vec![listener]);
                let why =
                    "a `[[notify]]` was made: give it attributes = { moblab_mac_address = …, moblab_id = … }";
                self.leave(enabled, Fate::ByHand, why);
            }
            (Some(enabled), None) => {
                self.leave(enabled, Fate::ByHand, "see the topic");
                let why = "is no projects/PROJECT/topics/TOPIC: write a `[[notify]]`";
                self.leave(topic, Fate::ByHand, why);
            }
        }
    }

    /// Takes entries of a list that are made of one key of theirs; if that cannot be, it is left.
    fn carry_list(&mut self, of: &'a Entry, section: &'static str, entries: Vec<Table>) {
        let taken = match unclear(of) {
            Some(why) => Err(why.to_owned()),
            None => self.draft.take_list(section, entries, &from(&[of])),
        };
        match taken {
            Ok(()) if self.known.insert((&of.section, &of.key)) => self.carried += 1,
            Ok(()) => {}
            Err(why) => self.leave(of, Fate::ByHand, &why),
        }
    }

    fn mail(&mut self) {
        let server = |key: &str| self.get("SERVER", key);
        let (smtp, port) = (server("smtp_server"), server("smtp_port"));
        let (user, password) = (server("smtp_user"), server("smtp_password"));
        let notify = self.get("SCHEDULER", "notify_email");
        let sender = self.get("SCHEDULER", "notify_email_from");
        let all: Vec<&Entry> = [notify, smtp, port, sender].into_iter().flatten().collect();
        let names = notify.map_or("", Entry::text).split(|c| space(c) || ",;:".contains(c));
        let (to, short): (Vec<&str>, Vec<&str>) =
            names.filter(|name| !name.is_empty()).partition(|name| name.contains('@'));
        let url = address::smtp(smtp.map(Entry::text), port.map(Entry::text));
        let (Some(notify), Some(url), false) = (notify, url, to.is_empty()) else {
            let why =
                "[SCHEDULER] notify_email and [SERVER] smtp_server do not say whom to tell how: see `[mail]`";
            for entry in all.into_iter().chain(user).chain(password) {
                self.leave(entry, Fate::ByHand, why);
            }
            return;
        };
        let url_note = match smtp {
            Some(smtp) => from(&[Some(smtp), port].into_iter().flatten().collect::<Vec<_>>()),
            None => "no smtp_server: this machine's own".to_owned(),
        };
        let host =
            self.shard().or(self.get("SERVER", "hostname")).map(Entry::text).filter(|host| is_host(host));
        let (sender, sender_note) = match sender.filter(|sender| sender.text().contains('@')) {
            Some(sender) => (sender.text().to_owned(), from(&[sender])),
            None => (format!("dronekeeper@{}", host.unwrap_or("localhost")), "your choice".to_owned()),
        };
        let to_note = match short.is_empty() {
            true => from(&[notify]),
            false => format!("{}, without {}: no domain", from(&[notify]), short.join(" ")),
        };
        let to: Vec<Value> = to.into_iter().map(Value::from).collect();
        let keys = vec![
            Key::new("mail", "smtp", url, url_note),
            Key::new("mail", "from", sender, sender_note),
            Key::new("mail", "to", to, to_note),
        ];
        self.carry(&all, keys);
        if let Some(user) = user {
            let note = format!("{}; comes with the next line", from(&[user]));
            self.draft.remark(Key::new("mail", "user", user.text(), note));
            let note = "write the password into this file".to_owned();
            self.draft.remark(Key::new("mail", "password_file", "/etc/dronekeeper/mail.password", note));
            self.leave(
                user,
                Fate::ByHand,
                "shown as a comment in `[mail]`, for the password's file must be there",
            );
        }
        self.leave_if(password, Fate::ByHand, "passwords are not copied: write it into `mail.password_file`");
    }

    /// Says what there is to say of the keys that have no equivalent.
    fn words(&mut self) {
        for entry in self.site.entries() {
            if let Some((fate, why)) = word(entry) {
                self.leave(entry, fate, why);
            }
        }
    }
}

/// `store.url` and `store.prefix` of `results_storage_server`.
fn store_keys(entry: &Entry) -> Option<Vec<Key>> {
    let (url, prefix) = address::bucket(entry.text())?;
    let key = |name, value| Key::new("store", name, value, from(&[entry]));
    let prefix =
        Some(prefix).filter(|prefix| !prefix.is_empty()).map(|prefix| key("prefix", prefix.to_owned()));
    Some([Some(key("url", url)), prefix].into_iter().flatten().collect())
}

/// Why a value cannot be taken at its word.
fn unclear(entry: &Entry) -> Option<&'static str> {
    if entry.value.contains("%(") {
        Some("holds `%(`, where Autotest may have put another value in: write it by hand")
    } else if entry.value.contains('\u{fffd}') {
        Some("is not in UTF-8: write it by hand")
    } else {
        None
    }
}
