//! `top`: the drone's state, live in the terminal.
//!
//! ```text
//! control socket --(status, each second)--> screen
//! ```

use super::client::{Client, NoAnswer};
use super::show::since;
use crate::say;
use crate::status::Status as Exit;
use actors::console::status::Status;
use actors::shown::Shown;
use config::ByteCount;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Gauge, Paragraph, Row, Table, Wrap};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Shows the drone until `q`.
pub fn top(client: &Client) -> Exit {
    if !std::io::stdout().is_terminal() {
        say::error("top needs a terminal; use `dronekeeper status`");
        return Exit::Failed;
    }
    let mut status: Status = match client.get("status", &[]) {
        Ok(status) => status,
        Err(NoAnswer(exit)) => return exit,
    };
    // A panic puts the terminal back, too.
    let mut terminal = ratatui::init();
    let (mut asked, mut from) = (Instant::now(), 0);
    let exit = loop {
        if asked.elapsed() >= LOOK {
            asked = Instant::now();
            match client.ask_quietly("status") {
                Some(now) => status = now,
                None => break Exit::NotRunning,
            }
        }
        from = from.min(status.actors.len().saturating_sub(1));
        if terminal.draw(|frame| draw(frame, &status, from)).is_err() {
            break Exit::Failed;
        }
        match key(LOOK.saturating_sub(asked.elapsed())) {
            Some(Key::Quit) => break Exit::Ok,
            Some(Key::Up) => from = from.saturating_sub(1),
            Some(Key::Down) => from += 1,
            None => {}
        }
    };
    ratatui::restore();
    if exit == Exit::NotRunning {
        say::error("the drone does not answer any more");
    }
    exit
}

enum Key {
    Quit,
    Up,
    Down,
}

fn key(patience: Duration) -> Option<Key> {
    if !event::poll(patience).ok()? {
        return None;
    }
    let Event::Key(KeyEvent { code, modifiers, .. }) = event::read().ok()? else { return None };
    match code {
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
        KeyCode::Up | KeyCode::Char('k') => Some(Key::Up),
        KeyCode::Down | KeyCode::Char('j') => Some(Key::Down),
        _ => None,
    }
}

fn draw(frame: &mut Frame<'_>, status: &Status, from: usize) {
    let work: usize = status.lanes.iter().map(|lane| lane.under_way.len()).sum();
    let height = |rows: usize| Constraint::Length(u16::try_from(rows).unwrap_or(u16::MAX));
    let [head, disk, problems, lanes, at_work, tree] = Layout::vertical([
        height(1),
        height(1),
        height(if status.problems.is_empty() { 0 } else { 1 + 2 * status.problems.len().min(4) }),
        height(2 + status.lanes.len()),
        height(2 + work.min(8)),
        Constraint::Min(3),
    ])
    .areas(frame.area());
    frame.render_widget(headline(status), head);
    if let Some(used) = &status.disk {
        let color = if used.pressing { Color::Red } else { Color::Blue };
        let label = format!("disk {} % used, {} free", used.used_percent, ByteCount(used.free));
        let gauge = Gauge::default().gauge_style(Style::new().fg(color)).label(label);
        frame.render_widget(gauge.percent(u16::from(used.used_percent.min(100))), disk);
    }
    let texts = status.problems.iter().flat_map(|problem| {
        let text = format!("[{}] {}", problem.id, Shown::text(&problem.text));
        [Line::from(text).red(), Line::from(format!("    {}", problem.hint)).dim()]
    });
    let text: Vec<Line<'_>> = texts.collect();
    frame.render_widget(
        Paragraph::new(text).wrap(Wrap { trim: false }).block(titled("what is wrong")),
        problems,
    );
    frame.render_widget(lane_table(status), lanes);
    frame.render_widget(work_table(status), at_work);
    frame.render_widget(tree_table(status, from), tree);
}

fn titled(title: &str) -> Block<'_> {
    Block::new().borders(Borders::TOP).title(title)
}

fn headline(status: &Status) -> Line<'static> {
    let up = since(status.started_at, status.now);
    let text = format!("dronekeeper {} on {}   up {up}   ", status.version, status.drone);
    let health = if status.healthy { "HEALTHY".green() } else { "DEGRADED".red() };
    Line::from(vec![text.bold(), health.bold(), "   q quits, j and k scroll".dim()])
}

fn lane_table(status: &Status) -> Table<'static> {
    let head = Row::new([
        "LANE",
        "workers",
        "found",
        "backlog",
        "in hand",
        "published",
        "failed",
        "quarantined",
        "",
    ]);
    let rows = status.lanes.iter().map(|lane| {
        let counts =
            [lane.workers, lane.found, lane.backlog, lane.under_way.len(), lane.published, lane.failed];
        let counts = counts.into_iter().chain([lane.quarantined]).map(|count| count.to_string());
        let paused = lane.paused.as_deref().map_or(String::new(), |why| format!("paused: {why}"));
        let row = Row::new([lane.name.clone()].into_iter().chain(counts).chain([paused]));
        if lane.failed + lane.quarantined > 0 { row.yellow() } else { row }
    });
    let widths = [12, 7, 7, 7, 7, 9, 6, 11, 30].map(Constraint::Length);
    Table::new(rows.collect::<Vec<_>>(), widths).header(head.dim()).block(titled("lanes"))
}

fn work_table(status: &Status) -> Table<'static> {
    let rows = status.lanes.iter().flat_map(|lane| {
        lane.under_way.iter().map(|work| {
            let since = since(work.since, status.now);
            Row::new([work.doing.clone(), since, work.job.clone()])
        })
    });
    let widths = [Constraint::Length(14), Constraint::Length(14), Constraint::Fill(1)];
    Table::new(rows.collect::<Vec<_>>(), widths)
        .header(Row::new(["DOING", "for", "job"]).dim())
        .block(titled("at work"))
}

fn tree_table(status: &Status, from: usize) -> Table<'static> {
    let rows = status.actors.iter().skip(from).map(|actor| {
        let exit = actor.last_exit.clone().unwrap_or_default();
        let row = Row::new([actor.path.clone(), actor.state.clone(), actor.restarts.to_string(), exit]);
        if actor.state == "running" { row } else { row.red() }
    });
    let widths = [Constraint::Length(44), Constraint::Length(12), Constraint::Length(8), Constraint::Fill(1)];
    let head = Row::new(["PART", "state", "restarts", "last exit"]).dim();
    Table::new(rows.collect::<Vec<_>>(), widths).header(head).block(titled("supervision tree"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::show::tests::sample;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn screen(width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &sample(), 0)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn one_screen_has_health_disk_problems_lanes_work_and_tree() {
        let screen = screen(120, 40);
        for part in [
            "drone7",
            "DEGRADED",
            "80 % used",
            "[failed]",
            "bucket move",
            "uploading",
            "7-a",
            "root/offload/ledger",
            "boom",
        ] {
            assert!(screen.contains(part), "{part} is not in\n{screen}");
        }
    }

    #[test]
    fn a_terminal_that_is_too_small_is_no_fault() {
        for (width, height) in [(1, 1), (20, 3), (400, 2)] {
            screen(width, height);
        }
    }
}
