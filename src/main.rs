//! The program: flags, exit codes, and one of the commands.

use std::io::Write;
use std::process::ExitCode;

use nodeprobe::agent::Agent;
use nodeprobe::args::{self, Command, Config};
use nodeprobe::decoders;
use nodeprobe::error::{Context, Result};
use nodeprobe::host::Host;
use nodeprobe::http::Http;
use nodeprobe::programs::{check, running, schema};
use nodeprobe::sys::{bpf, capabilities, heap::Counted, process, signal::Signals};
use nodeprobe::systemd::{self, Manager};
use nodeprobe::{doctor, error, info, logs, memory, stderr, top, unit, warning};

/// Counted, so that what is taken in can be held against `--memory-limit`.
#[global_allocator]
static HEAP: Counted = Counted;

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
    memory::set_limit(config.memory_limit);
    if config.debug {
        bpf::print_talk();
    }
    let done = match config.command {
        Command::Run => run(config),
        Command::Once => once(config),
        Command::Top => return show_connections(config),
        Command::Doctor => print(doctor::report(&config).as_bytes()),
        Command::Check => return check(&config),
        Command::Logs => return show_logs(&config),
        Command::Schema => {
            let names: Vec<&str> = decoders::DECODERS.iter().map(|decoder| decoder.name).collect();
            print(schema::schema(&names).as_bytes())
        }
        Command::Unit => print_unit(&config),
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
    if config.config_check {
        Agent::open(config)?;
        info!("Config check successful, exiting");
        return Ok(());
    }
    let mut manager = Manager::of_environment(|name| std::env::var(name).ok());
    manager.starting();
    let listen = listen(&config);
    let http = Http::open(&listen, &config.telemetry_path, config.debug)?;
    let signals = Signals::open()?;
    process::reap_children_automatically();
    let path = config.telemetry_path.clone();
    let kept = config.kept_capabilities;
    let mut agent = Agent::open(config)?;
    if let Some(kept) = kept {
        capabilities::keep_capabilities(kept).context("--capabilities.keep")?;
    }
    match http.address() {
        Some(address) => info!("{} serves http://{address}{path}", env!("CARGO_PKG_VERSION")),
        None => info!("{} serves {path}", env!("CARGO_PKG_VERSION")),
    }
    agent.run(http, &signals, manager)
}

/// Where to listen: who has systemd open a socket for us means that one, whatever a unit's environment says. The command line
/// is nearer.
fn listen(config: &Config) -> String {
    let passed = systemd::passed_sockets();
    if passed == 0 || config.is_listen_given {
        return config.listen.clone();
    }
    if passed > 1 {
        warning!("systemd passed {passed} sockets, of which the first is served");
    }
    "fd://0".to_owned()
}

fn once(config: Config) -> Result<()> {
    process::reap_children_automatically();
    let body = Agent::open(config)?.once()?;
    print(&body.pieces.concat())
}

/// The unit says what the command line says; what the environment says counts, and comes from there at each start.
fn print_unit(config: &Config) -> Result<()> {
    let arguments = std::env::args().skip(1).collect();
    let flags = unit::without_command(arguments, |rest| {
        let program = std::iter::once("nodeprobe".to_owned());
        args::parse(program.chain(rest.iter().cloned()), |_| None)
            .is_ok_and(|config| config.command == Command::Run)
    });
    let program = std::env::current_exe().ok().and_then(|path| path.into_os_string().into_string().ok());
    print(unit::unit(config, &flags, program.as_deref().unwrap_or(unit::PROGRAM)).as_bytes())
}

/// Exits with 1 when this machine or user cannot.
fn show_connections(config: Config) -> ExitCode {
    match top::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("top: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Exits with 1 when a file cannot be read. A reader that went away is no error.
fn show_logs(config: &Config) -> ExitCode {
    let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
    match logs::command::run(config, &mut stdout) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("logs: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Exits with 1 when something is wrong, as linters do.
fn check(config: &Config) -> ExitCode {
    let options = running::Options { btf: config.btf_path.clone(), ..Default::default() };
    let host = Host::new(&config.root, config.cgroupfs_root.as_deref());
    let report = check::check(&config.paths, config.with_kernel.then_some((&options, &host)));
    let lines: String = report.findings.iter().map(|line| format!("{line}\n")).collect();
    if let Err(error) = print(lines.as_bytes()) {
        error!("{error}");
        return ExitCode::from(CANNOT_START);
    }
    let findings = report.findings.len();
    info!("configs: {}, findings: {findings}", report.configs);
    if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes to stdout. A reader that went away (`nodeprobe once | head`) is no error.
fn print(text: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
