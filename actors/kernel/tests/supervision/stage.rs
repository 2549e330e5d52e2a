//! Children that do what they are told, and a book of what they did.

use actix::prelude::*;
use kernel::{
    Backoff, Census, ChildRef, ChildSpec, Exit, OnExhaustion, Policy, State, Strategy, Tree, Verdict,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const SECOND: Duration = Duration::from_secs(1);

/// What happened, in order: `start a`, `stop b`, …
#[derive(Clone, Default)]
pub struct Book(Arc<Mutex<Vec<String>>>);

impl Book {
    pub fn write(&self, what: &str, who: &str) {
        self.0.lock().unwrap().push(format!("{what} {who}"));
    }

    /// What was written since it was last read.
    pub fn read(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub fn count(&self, line: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|it| *it == line).count()
    }
}

pub struct Kid {
    pub name: String,
    pub book: Book,
    pub verdict: Verdict,
    pub slow_to_stop: bool,
    pub dies_at_birth: bool,
    pub panics_when_stopped: bool,
}

impl Actor for Kid {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.book.write("start", &self.name);
        if self.dies_at_birth {
            self.verdict.leave(Exit::Failed("born dead".into()));
            ctx.stop();
        }
    }

    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        if self.slow_to_stop { Running::Continue } else { Running::Stop }
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.book.write("stop", &self.name);
        assert!(!self.panics_when_stopped, "in stopped");
    }
}

#[derive(Debug, Message, PartialEq)]
#[rtype(result = "()")]
pub enum Do {
    Note(u32),
    Panic,
    Fail(&'static str),
    Stop,
    Block(Duration),
}

impl Handler<Do> for Kid {
    type Result = ();

    fn handle(&mut self, what: Do, ctx: &mut Context<Self>) {
        match what {
            Do::Note(number) => self.book.write("note", &number.to_string()),
            Do::Panic => panic!("{} met a bad job", self.name),
            Do::Fail(why) => {
                self.verdict.leave(Exit::Failed(why.into()));
                ctx.stop();
            }
            Do::Stop => ctx.stop(),
            Do::Block(time) => std::thread::sleep(time),
        }
    }
}

#[derive(Message)]
#[rtype(result = "u32")]
pub struct Double(pub u32);

impl Handler<Double> for Kid {
    type Result = u32;

    fn handle(&mut self, Double(number): Double, _: &mut Context<Self>) -> u32 {
        number * 2
    }
}

/// A well-behaved child on the test's thread.
pub fn kid(name: &str, address: &ChildRef<Kid>, book: &Book) -> ChildSpec {
    made(name, address, book, |kid| kid)
}

pub fn made(
    name: &str,
    address: &ChildRef<Kid>,
    book: &Book,
    change: impl Fn(Kid) -> Kid + Send + Sync + 'static,
) -> ChildSpec {
    let (id, book) = (name.to_owned(), book.clone());
    let make = move |verdict| {
        change(Kid {
            name: id.clone(),
            book: book.clone(),
            verdict,
            slow_to_stop: false,
            dies_at_birth: false,
            panics_when_stopped: false,
        })
    };
    ChildSpec::worker(name, address, make).own_thread(false).backoff(steady(Duration::from_millis(10)))
}

/// Pauses that do not grow.
pub fn steady(pause: Duration) -> Backoff {
    Backoff { first: pause, most: pause, quiet: SECOND * 3600 }
}

pub fn policy(strategy: Strategy, intensity: usize) -> Policy {
    Policy { strategy, intensity, period: SECOND * 5, on_exhaustion: OnExhaustion::Escalate }
}

/// A family of three, `a`, `b` and `c`, under one supervisor that is the root.
pub struct Family {
    pub tree: Tree,
    pub book: Book,
    pub kids: Vec<ChildRef<Kid>>,
}

impl Family {
    pub async fn new(policy: Policy, treat: impl Fn(ChildSpec) -> ChildSpec + Send + Sync + 'static) -> Self {
        let (book, kids) =
            (Book::default(), vec![ChildRef::vacant(), ChildRef::vacant(), ChildRef::vacant()]);
        let (noted, addresses) = (book.clone(), kids.clone());
        let spec = ChildSpec::supervisor("root", policy, move || {
            ["a", "b", "c"]
                .iter()
                .zip(&addresses)
                .map(|(name, address)| treat(kid(name, address, &noted)))
                .collect()
        });
        let tree = Tree::start(&spec, 4).unwrap();
        settle().await;
        Family { tree, book, kids }
    }

    pub fn census(&self) -> &Census {
        self.tree.census()
    }

    pub fn state(&self, name: &str) -> Option<State> {
        self.census().child(&format!("root/{name}")).map(|child| child.state)
    }

    pub fn exit(&self, name: &str) -> Exit {
        self.census().child(&format!("root/{name}")).unwrap().last_exit.unwrap().1
    }

    pub fn generation(&self, name: &str) -> u64 {
        self.census().child(&format!("root/{name}")).unwrap().generation
    }

    /// Tells a child to do something, and gives the tree a second.
    pub async fn tell(&self, kid: usize, what: Do) {
        self.kids[kid].tell(what).unwrap();
        settle().await;
    }
}

/// Lets everything happen that is due within a second of the paused clock.
pub async fn settle() {
    tokio::time::sleep(SECOND).await;
}

pub fn lines(text: &str) -> Vec<String> {
    text.split(", ").map(str::to_owned).collect()
}
