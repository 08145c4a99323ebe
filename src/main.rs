//! The program: flags, exit codes, and one of the commands.

use std::io::Write;
use std::process::ExitCode;

use nodeprobe::agent::Agent;
use nodeprobe::args::{self, Command, Config};
use nodeprobe::error::Result;
use nodeprobe::http::Http;
use nodeprobe::sys::{clock, process, signal::Signals};
use nodeprobe::{doctor, error, info, stderr};

/// A bad flag, a taken port, a collector that must work and cannot; or, later, a loop that cannot wait any more.
const CANNOT_START: u8 = 2;

fn main() -> ExitCode {
    let config = match args::parse(std::env::args_os(), |name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(message) => {
            error!("{message}");
            return ExitCode::from(CANNOT_START);
        }
    };
    stderr::configure(config.log_level, config.log_per_second, config.log_burst);
    let done = match config.command {
        Command::Run => run(config),
        Command::Once => once(config),
        Command::Doctor => print(doctor::report(&config).as_bytes()),
        Command::Help => print(args::help().as_bytes()),
        Command::Version => print(concat!("nodeprobe ", env!("CARGO_PKG_VERSION"), "\n").as_bytes()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::from(CANNOT_START)
        }
    }
}

fn run(config: Config) -> Result<()> {
    if !config.inert.is_empty() {
        let flags: Vec<String> = config.inert.iter().map(|flag| format!("--{flag}")).collect();
        info!("accepted without effect: {}", flags.join(" "));
    }
    // The port first: a second nodeprobe must not attach a second set of programs before it finds the port taken.
    let http = Http::open(&config.listen, &config.telemetry_path, clock::monotonic_ns())?;
    let signals = Signals::open()?;
    process::reap_children_automatically();
    let path = config.telemetry_path.clone();
    let mut agent = Agent::open(config)?;
    if let Some(address) = http.address() {
        info!("{} serves http://{address}{path}", env!("CARGO_PKG_VERSION"));
    }
    agent.run(http, &signals)
}

fn once(config: Config) -> Result<()> {
    process::reap_children_automatically();
    let body = Agent::open(config)?.once()?;
    print(&body.pieces.concat())
}

/// Writes to stdout. A reader that went away (`nodeprobe once | head`) is no error.
fn print(text: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
