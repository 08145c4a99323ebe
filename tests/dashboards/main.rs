//! Grafana's dashboards and Prometheus' alerts: generated from tables of panels and alerts, which are checked against the tables
//! of metrics; and every query of them asked of a Prometheus that scraped a nodeprobe under load.
//!
//! A panel is a row in the table of its dashboard, an alert one in `alerts.rs`. `make docs` writes the files anew.

#[path = "../support/mod.rs"]
mod support;

mod alerts;
mod containers;
mod families;
mod grafana;
mod json;
mod logs;
mod model;
mod node;
mod programs;
mod promql;
mod rules;
mod scenario;
mod service_map;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use families::Family;
use json::Tree;
use model::Dashboard;
use nodeprobe::programs::builtin;
use scenario::{EXCEPTIONS, Exception, Expect, Scenario};
use support::cgroup::turn;
use support::prometheus::Prometheus;
use support::{Metrics, TempDir, run_command, until};

/// All dashboards.
const DASHBOARDS: [&Dashboard; 5] = [
    &node::DASHBOARD,
    &containers::DASHBOARD,
    &service_map::DASHBOARD,
    &logs::DASHBOARD,
    &programs::DASHBOARD,
];

const ALERTS: &str = "deploy/prometheus/alerts.yaml";

fn file(dashboard: &Dashboard) -> String {
    format!("deploy/grafana/{}.json", dashboard.name)
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}

#[track_caller]
fn is_up_to_date(path: &str, text: &str) {
    if std::env::var_os("NODEPROBE_UPDATE").is_some() {
        let to = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
        let new = to.with_extension("new");
        fs::write(&new, text).expect("written");
        fs::rename(new, &to).expect("renamed");
    }
    assert!(read(path) == text, "{path} is not what the tables say; `make docs` renews it");
}

/// Panels and alerts in words, for docs/DASHBOARDS.md.
fn listed() -> String {
    let mut text = String::new();
    for dashboard in DASHBOARDS {
        let _ = write!(
            text,
            "\n## {}\n\n`{}`: {}\n\n| | panels |\n|---|---|\n",
            dashboard.title,
            file(dashboard),
            dashboard.about
        );
        for row in dashboard.rows {
            let panels: Vec<&str> = row.panels.iter().map(|panel| panel.title).collect();
            let _ = writeln!(text, "| {} | {} |", row.title, panels.join("; "));
        }
    }
    let _ = write!(
        text,
        "\n## Alerts\n\n`{ALERTS}`.\n\n| alert | severity | for | what to do |\n|---|---|---|---|\n"
    );
    for alert in rules::all() {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            alert.name,
            alert.severity.word(),
            alert.wait,
            alert.action
        );
    }
    text + "\n"
}

#[test]
fn files_are_up_to_date() {
    for dashboard in DASHBOARDS {
        is_up_to_date(&file(dashboard), &grafana::document(dashboard));
    }
    is_up_to_date(ALERTS, &rules::document());
    let whole = read("docs/DASHBOARDS.md");
    let (begin, end) = ("<!-- list -->\n", "<!-- /list -->\n");
    let (before, rest) = whole.split_once(begin).expect("a beginning");
    let (_, behind) = rest.split_once(end).expect("an end");
    is_up_to_date("docs/DASHBOARDS.md", &format!("{before}{begin}{}{end}{behind}", listed()));
}

#[test]
fn dashboards_are_well_formed() {
    let mut uids = Vec::new();
    for dashboard in DASHBOARDS {
        let tree = Tree::read(&read(&file(dashboard)));
        uids.push(tree.get("uid").expect("uid").text().to_owned());
        let variables =
            tree.get("templating").and_then(|templating| templating.get("list")).expect("variables");
        let mut names: Vec<&str> =
            variables.list().iter().map(|variable| variable.get("name").expect("a name").text()).collect();
        // Those that Grafana has always.
        names.extend(["__rate_interval", "__range", "__value", "__url_time_range", "__all"]);
        tree.texts(&mut |text| {
            for used in text.split('$').skip(1) {
                let used = used.trim_start_matches('{');
                let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                // Of a pattern's groups.
                let is_group = used.starts_with(|c: char| c.is_ascii_digit());
                assert!(is_group || names.contains(&used.as_str()), "{}: ${used} in {text}", dashboard.name);
            }
        });
        let panels = tree.get("panels").expect("panels").list();
        let (mut ids, mut taken) = (Vec::new(), Vec::new());
        for panel in panels {
            let title = panel.get("title").expect("a title").text();
            let place = panel.get("gridPos").expect("a place");
            let at = |key: &str| place.get(key).and_then(Tree::number).expect("a number");
            let (x, y, w, h) = (at("x"), at("y"), at("w"), at("h"));
            assert!(w > 0 && h > 0 && x + w <= grafana::COLUMNS as u64, "{title}: {place:?}");
            for &(other, (ox, oy, ow, oh)) in &taken {
                let is_apart = x + w <= ox || ox + ow <= x || y + h <= oy || oy + oh <= y;
                assert!(is_apart, "{}: {title} lies on {other}", dashboard.name);
            }
            taken.push((title, (x, y, w, h)));
            ids.push(panel.get("id").and_then(Tree::number).expect("an id"));
            if panel.get("type").expect("a type").text() == "row" {
                continue;
            }
            let is_ours = |tree: &Tree| {
                let source = tree.get("datasource").expect("a data source");
                source.get("uid").expect("uid").text() == "${datasource}"
            };
            assert!(is_ours(panel) && !panel.get("description").expect("a description").text().is_empty());
            let targets = panel.get("targets").expect("targets").list();
            assert!(!targets.is_empty() && targets.iter().all(is_ours), "{title}");
            let mut letters: Vec<&str> =
                targets.iter().map(|target| target.get("refId").expect("a letter").text()).collect();
            letters.sort_unstable();
            letters.dedup();
            assert_eq!(letters.len(), targets.len(), "{title}");
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "{}: an id twice", dashboard.name);
    }
    uids.sort();
    uids.dedup();
    assert_eq!(uids.len(), DASHBOARDS.len());
    for (uid, dashboard) in [(grafana::uid("containers"), 1), (grafana::uid("node"), 0)] {
        assert_eq!(grafana::uid(DASHBOARDS[dashboard].name), uid, "links lead there");
    }
}

/// What promtool says, and whether it is content.
fn promtool(args: &[&str]) -> (bool, String) {
    let mut command = Command::new("promtool");
    command.args(args);
    let output = run_command(command, Duration::from_secs(60));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn promtool_accepts_the_rules() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(ALERTS);
    let (content, said) = promtool(&["check", "rules", "--lint-fatal", path.to_str().expect("UTF-8")]);
    assert!(content && said.contains(&format!("{} rules found", rules::all().count())), "{said}");
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(ALERTS);
    let directory = TempDir::new("alerts");
    let tests = directory.write("tests.yaml", rules::tests(path.to_str().expect("UTF-8")));
    let (content, said) = promtool(&["test", "rules", tests.to_str().expect("UTF-8")]);
    assert!(content, "{said}");
    // It would say so if one did not.
    let wrong = fs::read_to_string(&tests).expect("tests").replace("value: 1}", "value: 2}");
    let tests = directory.write("wrong.yaml", wrong);
    assert!(!promtool(&["test", "rules", tests.to_str().expect("UTF-8")]).0, "promtool accepts anything");
}

/// How long the scenario may take until every query has an answer.
const PATIENCE: Duration = Duration::from_secs(180);

/// A query as the test asks it.
struct Asked {
    /// Where it is.
    of: String,
    text: String,
    families: Vec<Family>,
}

/// All queries of all panels, choices and alerts, for any node and container; of alerts without the conditions.
fn queries() -> Vec<Asked> {
    let mut all = Vec::new();
    let families =
        |query: &promql::Query| query.selectors.iter().map(|selector| selector.family.clone()).collect();
    for dashboard in DASHBOARDS {
        for panel in dashboard.rows.iter().flat_map(|row| row.panels) {
            for at in 0..panel.queries.len() {
                let (mut text, query) = grafana::query(dashboard, panel, at);
                for variable in dashboard.variables {
                    text = text.replace(&format!("\"${}\"", variable.name), "\".*\"");
                }
                let text = text.replace("$__rate_interval", "30s").replace("$__range", "30s");
                assert!(!text.contains("[$"), "{text}");
                let of = format!("{}: {} {}", dashboard.name, panel.title, panel.queries[at].0);
                all.push(Asked { of, text, families: families(&query) });
            }
        }
        for variable in dashboard.variables {
            let text = format!("group by ({}) ({})", variable.label, variable.of);
            let query = promql::check(&text).expect("checked before");
            let of = format!("{}: ${}", dashboard.name, variable.name);
            all.push(Asked { of, text, families: families(&query) });
        }
    }
    for alert in rules::all() {
        let query = rules::query(alert);
        // What is to be absent is there.
        let text = query.unconditional(alert.query, "30s").replace("absent(", "(");
        all.push(Asked { of: alert.name.to_owned(), text, families: families(&query) });
    }
    all
}

/// What is not to be expected of a query, and why.
fn exception(asked: &Asked) -> Option<&'static Exception> {
    let is_of = |exception: &&Exception| {
        asked.families.iter().any(|family| family.name.starts_with(exception.family))
    };
    EXCEPTIONS.iter().find(is_of)
}

#[test]
fn every_query_answers() {
    let _turn = turn();
    let began = Instant::now();
    let scenario = Scenario::start();
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join(ALERTS);
    let mut prometheus = Prometheus::start(&[("nodeprobe", &scenario.agent)], 3, Some(&rules));
    until("prometheus answers", PATIENCE, || prometheus.value("vector(1)"));
    // Programs this kernel cannot run, with their metrics.
    let metrics = until("the agent answers", PATIENCE, || scenario.agent.try_get("/metrics").ok());
    let refused = Scenario::refused(&Metrics::parse(metrics.text()));
    println!("programs this kernel refuses: {refused:?}");
    let unavailable: Vec<String> = builtin::get(&refused.iter().map(String::as_str).collect::<Vec<_>>())
        .into_iter()
        .flat_map(|program| {
            let config =
                nodeprobe::programs::parse::parse(&program.name, &program.name, program.config.as_bytes());
            config.0.expect("a config").metrics
        })
        .map(|metric| format!("ebpf_exporter_{}", metric.name))
        .collect();

    // So that there is a last reload.
    scenario.agent.signal(libc::SIGHUP);

    let all = queries();
    let (mut waiting, mut silent): (Vec<&Asked>, Vec<&Asked>) = (Vec::new(), Vec::new());
    for asked in &all {
        let is_refused = asked.families.iter().any(|family| unavailable.contains(&family.name));
        match exception(asked).map(|exception| (exception.expect)(&scenario)) {
            _ if is_refused => println!("left out: {}", asked.of),
            Some(Expect::Nothing) => silent.push(asked),
            Some(Expect::Either) => {}
            Some(Expect::Answers) | None => waiting.push(asked),
        }
    }
    let count = waiting.len();
    while !waiting.is_empty() {
        waiting.retain(|asked| prometheus.numbers(&asked.text) == 0);
        if began.elapsed() > PATIENCE {
            let list: Vec<String> =
                waiting.iter().map(|asked| format!("{}: {}", asked.of, asked.text)).collect();
            panic!("{} queries are empty:\n{}", list.len(), list.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    println!("{count} queries have answers after {:?}; {} are exceptions", began.elapsed(), silent.len());
    for asked in silent {
        let reason = exception(asked).map_or("", |exception| exception.reason);
        assert_eq!(prometheus.numbers(&asked.text), 0, "{} has an answer: no exception ({reason})", asked.of);
    }

    // Prometheus itself evaluates the rules, and some do fire.
    let rules = until("rules were evaluated", PATIENCE, || {
        prometheus.get("/api/v1/rules").ok().filter(|rules| !rules.contains("\"health\":\"unknown\""))
    });
    assert_eq!(rules.matches("\"health\":\"ok\"").count(), rules::all().count(), "{rules}");
    assert!(!rules.contains("error expanding template"), "{rules}");
    until("the alert about kills", PATIENCE, || {
        let expression = "count(ALERTS{alertname=\"ContainerOomKilled\", alertstate=\"firing\"})";
        prometheus.value(expression).filter(|count| *count >= 1.0)
    });
}
