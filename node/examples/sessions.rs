//! Sessions of users, by an operator written by hand: state for each user, timers in event time and
//! in the time of the clock on the wall, and a side output.
//!
//! `cargo run --release -p gear-node --example sessions -- --clicks 1000000`
//!
//! A session ends when its user has not clicked for thirty minutes of event time. A user who clicks
//! more often than a human can is named on the side output, and so is one whose session is still
//! open when a minute has passed on the wall: that is what a source that hangs looks like.

use std::process::ExitCode;

use gear_node::prelude::*;

/// What the job can be told.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Clicks in all
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub clicks: u64,

    /// Users
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub users: u64,

    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "out/sessions")]
    pub out: String,
}

/// A user looked at a page.
#[derive(Clone, Debug, PartialEq, Eq, Record)]
pub struct Click {
    /// Who.
    pub user: u64,
    /// What.
    pub page: u32,
    /// When.
    pub at: EventTime,
}

/// What a user did between two pauses.
#[derive(Clone, Debug, PartialEq, Eq, Record)]
pub struct Session {
    /// Who.
    pub user: u64,
    /// The first click.
    pub start: EventTime,
    /// The last click.
    pub end: EventTime,
    /// The pages, in the order in which the clicks came.
    pub pages: Vec<u32>,
    /// The page that was looked at most often.
    pub favourite: u32,
}

/// Something that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq, Record)]
pub enum Alert {
    /// A user clicks faster than a human.
    TooFast(u64),
    /// A user's session is open for long on the wall.
    StillOpen(u64),
}

fn main() -> ExitCode {
    gear_node::main("sessions", job)
}

/// Sessions of generated clicks.
pub fn job(app: &mut App<Options>) -> Result<()> {
    let Options { clicks, users, out } = app.options().clone();
    let sessions = app
        .source("clicks", generate::source().count(clicks).map(move |n, r| click(n, r, users)))
        .event_time("clicked", |click| click.at)
        .watermarks(Watermarks::bounded(minutes(1)))
        .key_by(|click| click.user)
        .process("sessions", Sessions::default());
    sessions.side().sink("alerts", files::sink(format!("{out}/alerts"), write_alert));
    sessions.sink("files", files::sink(format!("{out}/sessions"), write_session).suffix(".tsv"));
    Ok(())
}

/// A user is silent for so long when the session ends.
pub const PAUSE: Duration = minutes(30);
/// A session that is open for so long on the wall is spoken of.
pub const OPEN_FOR: Duration = minutes(1);
/// Clicks on one page in a session that no human needs.
pub const CLICKS_OF_A_HUMAN: u64 = 20;

/// Gathers the clicks of a user.
#[derive(Clone, Copy, Default)]
pub struct Sessions {
    /// The first and the last click.
    span: ValueState<(EventTime, EventTime)>,
    pages: ListState<u32>,
    clicks: MapState<u32, u64>,
    /// When the session will be spoken of.
    speak_at: ValueState<WallTime>,
}

type Context<'a> = ProcessContext<'a, Session, Alert>;

impl Process for Sessions {
    type Key = u64;
    type In = Click;
    type Out = Session;
    type Side = Alert;

    fn open(&mut self, states: &mut States) {
        self.span = states.value("span");
        self.pages = states.list("pages");
        self.clicks = states.map("clicks");
        self.speak_at = states.value("speak-at");
    }

    fn on_record(&mut self, click: Click, cx: &mut Context<'_>) {
        // Many clicks may come between two watermarks, and so a whole pause.
        if cx.get(self.span).is_some_and(|(_, end)| click.at >= end + PAUSE) {
            self.close(click.user, cx);
        }
        let (start, end) = cx.get(self.span).unwrap_or_else(|| {
            let at = cx.wall + OPEN_FOR;
            cx.set(self.speak_at, &at);
            cx.set_wall_timer(at);
            (click.at, click.at)
        });
        // Clicks come out of order: the session may begin earlier than its first click came.
        let (start, last) = (start.min(click.at), end.max(click.at));
        cx.clear_event_timer(end + PAUSE);
        cx.set_event_timer(last + PAUSE);
        cx.set(self.span, &(start, last));
        cx.append(self.pages, &click.page);
        let clicks = cx.map_get(self.clicks, &click.page).unwrap_or(0) + 1;
        cx.map_set(self.clicks, &click.page, &clicks);
        if clicks == CLICKS_OF_A_HUMAN + 1 {
            cx.side(Alert::TooFast(click.user));
        }
    }

    fn on_event_timer(&mut self, _: EventTime, user: u64, cx: &mut Context<'_>) {
        self.close(user, cx);
    }

    fn on_wall_timer(&mut self, _: WallTime, user: u64, cx: &mut Context<'_>) {
        cx.clear(self.speak_at);
        cx.side(Alert::StillOpen(user));
    }
}

impl Sessions {
    /// Emits the session and forgets it.
    fn close(&self, user: u64, cx: &mut Context<'_>) {
        let Some((start, end)) = cx.get(self.span) else { return };
        let pages = cx.list(self.pages);
        let viewed = cx.map_keys(self.clicks);
        let clicks = |page: &u32| cx.map_get(self.clicks, page).unwrap_or(0);
        let favourite = viewed.iter().max_by_key(|page| clicks(page)).copied().unwrap_or_default();
        for page in &viewed {
            cx.map_remove(self.clicks, page);
        }
        cx.clear_list(self.pages);
        cx.clear(self.span);
        cx.clear_event_timer(end + PAUSE);
        if let Some(at) = cx.get(self.speak_at) {
            cx.clear_wall_timer(at);
            cx.clear(self.speak_at);
        }
        cx.emit_at(end, Session { user, start, end, pages, favourite });
    }
}

/// The click that comes as number `sequence`, one a second, made of a random number: ten users at a
/// time click for fifty minutes, then ten others. Some of them are no humans.
fn click(sequence: u64, random: u64, users: u64) -> Click {
    let user = (sequence / 3_000 * 10 + random % 10) % users.max(1);
    let page = if user % 25 == 3 { 1 } else { (random >> 32 & 127) as u32 };
    let delay = seconds(random >> 48 & 31);
    Click { user, page, at: EventTime::from_seconds(sequence as i64) - delay }
}

fn write_session(session: Session, out: &mut Vec<u8>) {
    let Session { user, start, end, pages, favourite } = session;
    let (start, end, clicks) = (start.0, end.0, pages.len());
    out.extend_from_slice(format!("{user}\t{start}\t{end}\t{clicks}\t{favourite}\n").as_bytes());
}

fn write_alert(alert: Alert, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{alert:?}\n").as_bytes());
}
