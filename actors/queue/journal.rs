//! The queues' items, on the disk before anybody is told that they are taken in: in SQLite beside the ledger, or in
//! PostgreSQL, where workers of other hosts find them too.
//!
//! An item is a job's directory, by its identity: another of its name is another item. It has a row for the queue's
//! command (part 0) and one for each of its tasks; part 0 is leased when no task is left, which is asked and not
//! counted. A lease names the run of the process that has it and ends by itself unless it is renewed; those of an
//! earlier run of the same drone are void at once. A journal that is lost is rebuilt from the directories that are
//! still there: what had been done is then done once more, under the same key.

use super::item::{Class, Item, ItemView, Outcome, Standing, key, shown, spelled};
use crate::base::{Base, BaseError, Purpose, Row, Tx, Value};
use crate::lab::{Incarnation, RelPath};
use crate::shown::chain;
use config::{On, Queue};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use tracing::{info, warn};
use uuid::Uuid;

const PURPOSE: Purpose = Purpose {
    name: "queue journal",
    source: "the directories that are still there",
    setting: "drone.queue_database",
    prepare,
};

/// Items that are done are remembered for so long, in seconds.
const HISTORY: i64 = 30 * 24 * 3600;
/// A list for people has so many rows.
const LIST: usize = 10_000;
/// Which columns make an [`Item`].
const COLUMNS: &str = "queue, key, part, job, dev, ino, born, lane, class, attempts";
/// Which rows are leased by this run of the process.
const OURS: &str = "state = 'running' AND home = ?1 AND boot = ?2";
/// No task of the item is left: `items` is the outer table.
const JOINED: &str =
    "NOT EXISTS (SELECT 1 FROM items AS task WHERE task.queue = items.queue AND task.key = items.key
     AND task.part > 0 AND task.state NOT IN ('done', 'dropped'))";

fn prepare(tx: &Tx<'_>, _: i64) -> Result<(), BaseError> {
    for made in [
        "CREATE TABLE IF NOT EXISTS items (queue TEXT NOT NULL, key TEXT NOT NULL, part BIGINT NOT NULL,
         job TEXT NOT NULL, dev BIGINT NOT NULL, ino BIGINT NOT NULL, born BIGINT NOT NULL, lane TEXT NOT NULL,
         class TEXT NOT NULL, state TEXT NOT NULL, attempts BIGINT NOT NULL, due BIGINT NOT NULL, home TEXT, boot TEXT,
         lease BIGINT NOT NULL, error TEXT, taken_in BIGINT NOT NULL, settled BIGINT, PRIMARY KEY (queue, key, part))",
        "CREATE INDEX IF NOT EXISTS items_due ON items (queue, state, class, due)",
        "CREATE INDEX IF NOT EXISTS items_by_job ON items (job)",
    ] {
        tx.run(made, &[])?;
    }
    Ok(())
}

/// Who leases items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// A drone, or a worker of its own. Two runs of one home never live at the same time.
    pub home: String,
    /// This run of it.
    pub boot: Uuid,
}

/// A job that goes into the queues.
#[derive(Clone, Debug)]
pub struct Intake<'a> {
    /// Its lane.
    pub lane: &'a str,
    /// The directory.
    pub job: &'a RelPath,
    /// Which of that name.
    pub incarnation: &'a Incarnation,
    /// What it holds.
    pub bytes: u64,
}

/// All queues of a drone. Every use may block, on the disk or on a server.
pub struct Queues {
    base: Base,
    settings: RwLock<Vec<Arc<Queue>>>,
    drone: String,
    holder: Holder,
}

impl std::fmt::Debug for Queues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queues").field("holder", &self.holder).finish_non_exhaustive()
    }
}

impl Queues {
    /// The journal at `database`, a file below `dir` or an address `postgres://…`; it is opened at its first use.
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(
        database: &str,
        dir: &Path,
        settings: Vec<Queue>,
        drone: &str,
        holder: Holder,
    ) -> Result<Self, BaseError> {
        let base = Base::new(database, dir, None, PURPOSE)?;
        let queues = Queues { base, settings: RwLock::default(), drone: drone.to_owned(), holder };
        queues.change(settings);
        Ok(queues)
    }

    /// From now on these are the queues; what lies in others stays there.
    pub fn change(&self, settings: Vec<Queue>) {
        let settings = settings.into_iter().map(Arc::new).collect();
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    fn settings(&self) -> Vec<Arc<Queue>> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Are they on a server, where other hosts work on them too?
    pub fn is_shared(&self) -> bool {
        self.base.is_server()
    }

    fn with<T: Send>(
        &self,
        work: impl Fn(&Tx<'_>) -> Result<T, BaseError> + Send + Sync,
    ) -> Result<T, BaseError> {
        if !self.is_shared() {
            return self.base.with(work);
        }
        // A client of PostgreSQL has a runtime of its own, which must not begin within another.
        let asked = std::thread::scope(|scope| scope.spawn(|| self.base.with(&work)).join());
        asked.unwrap_or_else(|_| Err(BaseError::Settings("the journal's thread died".into())))
    }

    fn of(&self, on: On, lane: &str) -> Vec<Arc<Queue>> {
        let mut queues = self.settings();
        queues.retain(|queue| {
            queue.on == on && (queue.lanes.is_empty() || queue.lanes.iter().any(|name| name == lane))
        });
        queues
    }

    /// Takes jobs into the queues that they go into, unless they are there, in one transaction; says how each stands.
    ///
    /// # Errors
    /// The journal's; nothing was taken in.
    pub fn admit(&self, on: On, jobs: &[Intake<'_>]) -> Result<Vec<Standing>, BaseError> {
        let queues: Vec<Vec<Arc<Queue>>> = jobs.iter().map(|job| self.of(on, job.lane)).collect();
        if queues.iter().all(Vec::is_empty) {
            return Ok(vec![Standing::Done; jobs.len()]);
        }
        self.with(|tx| {
            let now = tx.now()?;
            jobs.iter()
                .zip(&queues)
                .map(|(job, queues)| {
                    let mut standing = Standing::Done;
                    for queue in queues {
                        standing = standing.and(self.take_in(tx, queue, job, now)?);
                    }
                    Ok(standing)
                })
                .collect()
        })
    }

    fn take_in(&self, tx: &Tx<'_>, queue: &Queue, job: &Intake<'_>, now: i64) -> Result<Standing, BaseError> {
        let key = key(&self.drone, &queue.name, job.job, job.incarnation);
        if let Some(standing) = standing(tx, &queue.name, &key)? {
            return Ok(standing);
        }
        let Incarnation { dev, ino, born_ns } = job.incarnation;
        let class = Class::of_size(queue, job.bytes).name();
        for part in 0..=queue.tasks.len() {
            let insert =
                "INSERT INTO items (queue, key, part, job, dev, ino, born, lane, class, state, attempts, due,
                 lease, taken_in) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'queued', 0, 0, 0, ?10)
                 ON CONFLICT (queue, key, part) DO NOTHING";
            let part = i64::try_from(part).unwrap_or(i64::MAX);
            let (dev, ino) = (dev.cast_signed(), ino.cast_signed());
            let values: [Value; 10] = [
                queue.name.as_str().into(),
                key.as_str().into(),
                part.into(),
                spelled(job.job).into(),
                dev.into(),
                ino.into(),
                (*born_ns).into(),
                job.lane.into(),
                class.into(),
                now.into(),
            ];
            tx.run(insert, &values)?;
        }
        Ok(Standing::Waiting)
    }

    /// May this job be deleted, as far as the queues are concerned? Those that must come first have succeeded.
    ///
    /// # Errors
    /// The journal's; then it may not.
    pub fn allow_prune(
        &self,
        lane: &str,
        job: &RelPath,
        incarnation: &Incarnation,
    ) -> Result<bool, BaseError> {
        let first: Vec<Arc<Queue>> = [On::Completed, On::Offloaded]
            .into_iter()
            .flat_map(|on| self.of(on, lane))
            .filter(|queue| queue.must_precede_prune)
            .collect();
        if first.is_empty() {
            return Ok(true);
        }
        self.with(|tx| {
            for queue in &first {
                let key = key(&self.drone, &queue.name, job, incarnation);
                if standing(tx, &queue.name, &key)? != Some(Standing::Done) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// The items of a class that are due first, at most `most`, leased to this process for the queue's time.
    ///
    /// # Errors
    /// The journal's; nothing is leased.
    pub fn lease(&self, queue: &Queue, class: Class, most: usize) -> Result<Vec<Item>, BaseError> {
        self.with(|tx| {
            let (now, boot) = (tx.now()?, self.holder.boot.to_string());
            let (home, name) = (self.holder.home.as_str(), queue.name.as_str());
            let void = "UPDATE items SET state = 'queued', boot = NULL, home = NULL WHERE queue = ?1
                 AND state = 'running' AND (lease < ?2 OR (home = ?3 AND boot <> ?4))";
            if cfg!(not(seeded_bug = "lease_for_ever")) {
                tx.run(void, &[name.into(), now.into(), home.into(), boot.as_str().into()])?;
            }
            let select = format!(
                "SELECT {COLUMNS} FROM items WHERE queue = ?1 AND state = 'queued' AND class = ?2 AND due <= ?3
                 AND (part > 0 OR {JOINED}) ORDER BY due, taken_in, key, part LIMIT {most}{}",
                tx.for_update()
            );
            let rows = tx.rows(&select, &[name.into(), class.name().into(), now.into()])?;
            let items: Vec<Item> = rows.iter().filter_map(Item::of).collect();
            for item in &items {
                let update = "UPDATE items SET state = 'running', home = ?4, boot = ?5, lease = ?6
                     WHERE queue = ?1 AND key = ?2 AND part = ?3";
                let until = now.saturating_add(seconds(queue.lease));
                let [queue, key, part] = item.row();
                tx.run(update, &[queue, key, part, home.into(), boot.as_str().into(), until.into()])?;
            }
            Ok(items)
        })
    }

    /// Renews the leases of this process on a queue; answers with what it still holds.
    ///
    /// # Errors
    /// The journal's; the leases end when their time is over.
    pub fn renew(&self, queue: &Queue) -> Result<Vec<(String, i64)>, BaseError> {
        self.with(|tx| {
            let until = tx.now()?.saturating_add(seconds(queue.lease));
            let ours = [
                self.holder.home.as_str().into(),
                self.holder.boot.to_string().into(),
                queue.name.as_str().into(),
            ];
            let update = format!("UPDATE items SET lease = ?4 WHERE {OURS} AND queue = ?3");
            let [home, boot, name] = ours.clone();
            tx.run(&update, &[home, boot, name, until.into()])?;
            let held = tx.rows(&format!("SELECT key, part FROM items WHERE {OURS} AND queue = ?3"), &ours)?;
            Ok(held.iter().map(|row| (row.text(0).to_owned(), row.int(1))).collect())
        })
    }

    /// This item has shown to be heavy; it runs on, and counts as that from now on.
    ///
    /// # Errors
    /// The journal's.
    pub fn reclassify(&self, item: &Item) -> Result<(), BaseError> {
        let update = "UPDATE items SET class = 'heavy' WHERE queue = ?1 AND key = ?2 AND part = ?3";
        self.with(|tx| tx.run(update, &item.row()).map(drop))
    }

    /// Writes down what came of a run; the lease ends with it. A late word of who has lost it is void.
    ///
    /// # Errors
    /// The journal's; the item runs again when the lease is over.
    pub fn settle(&self, item: &Item, outcome: &Outcome) -> Result<(), BaseError> {
        self.with(|tx| {
            let now = tx.now()?;
            let (state, error, pause, failed) = match outcome {
                Outcome::Done => ("done", None, 0, 0),
                Outcome::Again(why, pause) => ("queued", Some(why.as_str()), pause.as_secs().max(1), 1),
                Outcome::Back => ("queued", None, 0, 0),
                Outcome::Dead(why) => ("dead", Some(why.as_str()), 0, 1),
            };
            let update = "UPDATE items SET state = ?6, error = ?7, due = ?8, attempts = attempts + ?9, settled = ?10,
                 home = NULL, boot = NULL
                 WHERE queue = ?3 AND key = ?4 AND part = ?5 AND state = 'running' AND home = ?1 AND boot = ?2";
            let [queue, key, part] = item.row();
            let due = now.saturating_add(i64::try_from(pause).unwrap_or(i64::MAX));
            let values = [
                self.holder.home.as_str().into(),
                self.holder.boot.to_string().into(),
                queue,
                key,
                part,
                state.into(),
                error.into(),
                due.into(),
                failed.into(),
                now.into(),
            ];
            tx.run(update, &values).map(drop)
        })
    }

    /// Gives back all that this process holds, and says what: it ends, and what it started ends with it.
    pub fn release(&self) {
        if self.settings().is_empty() {
            return;
        }
        let released = self.with(|tx| {
            let soon = tx.now()?.saturating_add(1);
            let (home, boot) = (self.holder.home.as_str(), self.holder.boot.to_string());
            let held = tx.rows(
                &format!("SELECT queue, job FROM items WHERE {OURS}"),
                &[home.into(), boot.as_str().into()],
            )?;
            let update =
                format!("UPDATE items SET state = 'queued', due = ?3, home = NULL, boot = NULL WHERE {OURS}");
            tx.run(&update, &[home.into(), boot.as_str().into(), soon.into()])?;
            Ok(held)
        });
        match released {
            Ok(held) => held.iter().for_each(|row| {
                info!(queue = row.text(0), job = shown(row.text(1)), "cut off, and returned to the queue");
            }),
            Err(error) => warn!(error = %chain(&error), "what was cut off runs again when its lease is over"),
        }
    }

    /// Forgets what was done long ago.
    ///
    /// # Errors
    /// The journal's.
    pub fn tidy(&self) -> Result<(), BaseError> {
        self.with(|tx| {
            let long_ago = tx.now()?.saturating_sub(HISTORY);
            let old = "DELETE FROM items WHERE state IN ('done', 'dropped') AND settled < ?1";
            tx.run(old, &[long_ago.into()]).map(drop)
        })
    }

    /// The items, or those that a person looks for: of one state, of one job.
    ///
    /// # Errors
    /// The journal's.
    pub fn list(&self, state: Option<&str>, job: Option<&RelPath>) -> Result<Vec<ItemView>, BaseError> {
        if self.settings().is_empty() {
            return Ok(Vec::new());
        }
        let job = job.map(spelled);
        self.with(|tx| {
            let asked = [("state", state), ("job", job.as_deref())];
            let asked: Vec<(&str, &str)> =
                asked.into_iter().filter_map(|(column, value)| Some((column, value?))).collect();
            let conditions =
                asked.iter().enumerate().map(|(at, (column, _))| format!("{column} = ?{}", at + 1));
            let conditions = conditions.chain(["part >= 0".to_owned()]).collect::<Vec<_>>().join(" AND ");
            let values: Vec<Value> = asked.iter().map(|(_, value)| (*value).into()).collect();
            let select = format!(
                "SELECT queue, key, part, job, lane, class, state, attempts, error, taken_in, due FROM items
                 WHERE {conditions} ORDER BY queue, taken_in, key, part LIMIT {LIST}"
            );
            Ok(tx.rows(&select, &values)?.iter().map(view).collect())
        })
    }

    /// Makes dead items of these jobs, or of all, due again, from their first attempt; answers with how many.
    ///
    /// # Errors
    /// The journal's.
    pub fn retry(&self, jobs: Option<&[RelPath]>) -> Result<usize, BaseError> {
        let update =
            "UPDATE items SET state = 'queued', attempts = 0, due = 0 WHERE state IN ('dead', 'queued')";
        self.decide(update, jobs)
    }

    /// A person says that these jobs need not be processed; answers with how many items that concerns.
    ///
    /// # Errors
    /// The journal's.
    pub fn forget(&self, jobs: &[RelPath]) -> Result<usize, BaseError> {
        let now = jiff::Timestamp::now().as_second();
        let update =
            format!("UPDATE items SET state = 'dropped', settled = {now} WHERE state IN ('dead', 'queued')");
        self.decide(&update, Some(jobs))
    }

    fn decide(&self, update: &str, jobs: Option<&[RelPath]>) -> Result<usize, BaseError> {
        let changed = self.with(|tx| match jobs {
            None => tx.run(&format!("{update} AND state = 'dead'"), &[]),
            Some(jobs) => {
                let update = format!("{update} AND job = ?1");
                jobs.iter().map(|job| tx.run(&update, &[spelled(job).into()])).sum()
            }
        })?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }
}

/// How an item stands, with all its parts; `None`: it was never taken in.
fn standing(tx: &Tx<'_>, queue: &str, key: &str) -> Result<Option<Standing>, BaseError> {
    let select = "SELECT part, state FROM items WHERE queue = ?1 AND key = ?2";
    let rows = tx.rows(select, &[queue.into(), key.into()])?;
    let each = rows.iter().map(|row| {
        let standing = match row.text(1) {
            "done" | "dropped" => Standing::Done,
            "dead" => Standing::Dead,
            _ => Standing::Waiting,
        };
        (row.int(0) > 0, standing)
    });
    let (tasks, own): (Vec<_>, Vec<_>) = each.partition(|(is_task, _)| *is_task);
    let Some((_, own)) = own.first() else { return Ok(None) };
    let tasks = tasks.into_iter().fold(Standing::Done, |all, (_, task)| all.and(task));
    // What is to be run after a task that gave up waits for a person, as that task does.
    Ok(Some(if tasks == Standing::Done { *own } else { tasks }))
}

fn view(row: &Row) -> ItemView {
    ItemView {
        queue: row.text(0).to_owned(),
        key: row.text(1).to_owned(),
        part: row.int(2),
        job: shown(row.text(3)),
        lane: row.text(4).to_owned(),
        class: row.text(5).to_owned(),
        state: row.text(6).to_owned(),
        attempts: u32::try_from(row.int(7)).unwrap_or(u32::MAX),
        error: row.maybe_text(8).map(str::to_owned),
        taken_in: row.int(9),
        due: row.int(10),
    }
}

fn seconds(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_secs().max(1)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAVY: u64 = 1 << 30;

    fn queue(name: &str, on: On) -> Queue {
        Queue { name: name.into(), on, command: vec!["x".into()], ..Queue::default() }
    }

    fn queues(dir: &Path, boot: u8) -> Queues {
        let tasks = vec![vec!["a".to_owned()], vec!["b".to_owned()]];
        let joined = Queue { tasks, lanes: vec!["joined".into()], ..queue("joined", On::Completed) };
        let settings = vec![queue("parse", On::Completed), queue("report", On::Offloaded), joined];
        let holder = Holder { home: "drone".into(), boot: Uuid::from_bytes([boot; 16]) };
        Queues::new("queue.sqlite", dir, settings, "drone", holder).unwrap()
    }

    fn job(name: &str) -> (RelPath, Incarnation) {
        (RelPath::new(name.as_bytes()).unwrap(), Incarnation { dev: 1, ino: 2, born_ns: 3 })
    }

    fn admit(queues: &Queues, on: On, lane: &str, (job, incarnation): &(RelPath, Incarnation)) -> Standing {
        queues.admit(on, &[Intake { lane, job, incarnation, bytes: 5 }]).unwrap()[0]
    }

    fn lease(queues: &Queues, name: &str) -> Vec<Item> {
        let settings = queues.settings().into_iter().find(|queue| queue.name == name).unwrap();
        queues.lease(&settings, Class::Light, 1).unwrap()
    }

    #[test]
    fn an_item_is_taken_in_once_and_leased_to_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let (queues, job) = (queues(dir.path(), 1), job("1-a"));
        for _ in 0..3 {
            assert_eq!(admit(&queues, On::Completed, "jobs", &job), Standing::Waiting);
        }
        let item = lease(&queues, "parse").remove(0);
        assert!(lease(&queues, "parse").is_empty() && lease(&queues, "report").is_empty());
        queues.settle(&item, &Outcome::Done).unwrap();
        assert_eq!(admit(&queues, On::Completed, "jobs", &job), Standing::Done);
        // Another directory of that name is another item.
        let other = (job.0.clone(), Incarnation { ino: 9, ..job.1.clone() });
        assert_eq!(admit(&queues, On::Completed, "jobs", &other), Standing::Waiting);
        assert!(!queues.allow_prune("jobs", &job.0, &job.1).unwrap(), "the other queue must come first too");
        admit(&queues, On::Offloaded, "jobs", &job);
        let report = lease(&queues, "report").remove(0);
        queues.settle(&report, &Outcome::Done).unwrap();
        assert!(queues.allow_prune("jobs", &job.0, &job.1).unwrap());
    }

    #[test]
    fn what_a_dead_process_had_is_leased_again_and_its_late_word_is_void() {
        let dir = tempfile::tempdir().unwrap();
        let (first, job) = (queues(dir.path(), 1), job("1-a"));
        admit(&first, On::Completed, "jobs", &job);
        let item = lease(&first, "parse").remove(0);
        let second = queues(dir.path(), 2);
        let again = lease(&second, "parse").remove(0);
        assert_eq!((&again.key, again.attempts), (&item.key, 0));
        first.settle(&item, &Outcome::Done).unwrap();
        assert_eq!(second.list(Some("running"), None).unwrap().len(), 1);
        assert_eq!(first.renew(&first.settings()[0]).unwrap(), [], "it believes that it has what it lost");
        assert_eq!(second.renew(&second.settings()[0]).unwrap().len(), 1);
        second.settle(&again, &Outcome::Dead("broken".into())).unwrap();
        assert_eq!(admit(&second, On::Completed, "jobs", &job), Standing::Dead);
        assert!(!second.allow_prune("jobs", &job.0, &job.1).unwrap());
        assert_eq!(second.retry(None).unwrap(), 1);
        assert_eq!(lease(&second, "parse")[0].attempts, 0);
    }

    #[test]
    fn another_home_waits_until_a_lease_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let (drone, job) = (queues(dir.path(), 1), job("1-a"));
        let mut worker = queues(dir.path(), 2);
        worker.holder.home = "worker".into();
        admit(&drone, On::Completed, "jobs", &job);
        assert_eq!(lease(&drone, "parse").len(), 1);
        assert!(lease(&worker, "parse").is_empty());
        drone.with(|tx| tx.run("UPDATE items SET lease = lease - 1000", &[])).unwrap();
        assert_eq!(lease(&worker, "parse").len(), 1);
        assert!(lease(&drone, "parse").is_empty());
    }

    #[test]
    fn the_last_part_waits_for_every_task_whatever_becomes_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let (queues, job) = (queues(dir.path(), 1), job("1-a"));
        assert_eq!(admit(&queues, On::Completed, "joined", &job), Standing::Waiting);
        let tasks = [lease(&queues, "joined").remove(0), lease(&queues, "joined").remove(0)];
        assert_eq!(tasks.each_ref().map(|item| item.part), [1, 2]);
        assert!(lease(&queues, "joined").is_empty(), "it was joined before its tasks had ended");
        queues.settle(&tasks[0], &Outcome::Done).unwrap();
        queues.settle(&tasks[1], &Outcome::Dead("broken".into())).unwrap();
        assert!(lease(&queues, "joined").is_empty());
        assert_eq!(standing_of(&queues, &job), Standing::Dead);
        queues.retry(Some(std::slice::from_ref(&job.0))).unwrap();
        let again = lease(&queues, "joined").remove(0);
        assert_eq!(again.part, 2);
        queues.settle(&again, &Outcome::Done).unwrap();
        let last = lease(&queues, "joined").remove(0);
        assert_eq!((last.part, standing_of(&queues, &job)), (0, Standing::Waiting));
        queues.settle(&last, &Outcome::Done).unwrap();
        assert_eq!(standing_of(&queues, &job), Standing::Done);
    }

    fn standing_of(queues: &Queues, job: &(RelPath, Incarnation)) -> Standing {
        let key = key("drone", "joined", &job.0, &job.1);
        queues.with(|tx| standing(tx, "joined", &key)).unwrap().unwrap()
    }

    #[test]
    fn classes_do_not_mix_and_what_shows_to_be_heavy_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let (queues, first) = (queues(dir.path(), 1), job("1-a"));
        let heavy_above = config::ByteCount(HEAVY);
        queues.change(vec![Queue { heavy_workers: 1, heavy_above, ..queue("parse", On::Completed) }]);
        let (large, incarnation) = job("2-b");
        let heavy = Intake { lane: "jobs", job: &large, incarnation: &incarnation, bytes: HEAVY };
        queues.admit(On::Completed, &[heavy]).unwrap();
        admit(&queues, On::Completed, "jobs", &first);
        let light = lease(&queues, "parse").remove(0);
        assert_eq!(light.job, first.0);
        let of = |class| queues.lease(&queues.settings()[0], class, 5).unwrap();
        assert_eq!(of(Class::Heavy).len(), 1);
        queues.reclassify(&light).unwrap();
        queues.settle(&light, &Outcome::Back).unwrap();
        assert!(of(Class::Light).is_empty());
        assert_eq!(of(Class::Heavy)[0].job, first.0);
    }
}
