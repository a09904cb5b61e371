//! The product's log, on the simulation's clock: to look at a seed, and to compare two runs of it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::site;

/// Writes everything of ours, or of all crates, into a file while the guard lives.
pub(crate) fn to_file(path: &Path, all: bool) -> DefaultGuard {
    let file = Mutex::new(BufWriter::new(File::create(path).expect("a log file")));
    tracing::subscriber::set_default(Log { all, file })
}

struct Log {
    /// Every crate's traces too, to find out where two runs part.
    all: bool,
    file: Mutex<BufWriter<File>>,
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with("flyball");
        *metadata.level()
            <= if self.all {
                Level::TRACE
            } else if ours {
                Level::DEBUG
            } else {
                Level::INFO
            }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let at = site::now().as_micros();
        let mut line = Line(format!("{at} {} {}:", metadata.level(), metadata.target()));
        event.record(&mut line);
        line.0.push('\n');
        let mut file = self.file.lock().expect("whole");
        let _ = file.write_all(line.0.as_bytes());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
