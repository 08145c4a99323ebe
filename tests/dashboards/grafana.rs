//! From tables of panels to Grafana's JSON (from version 9 on), checked on the way.

use std::collections::BTreeSet;

use crate::json::Tree;
use crate::map;
use crate::model::{Dashboard, Panel, Variable, View};
use crate::promql::{self, Query, Unit};

/// Columns of Grafana's grid.
pub const COLUMNS: usize = 24;

/// The headlines of columns that are labels.
const LABELS: [(&str, &str); 4] = [
    ("instance", "Node"),
    ("container_id", "Container"),
    ("destination", "Destination"),
    ("actual_destination", "Actual destination"),
];

/// The identifier of a dashboard in links.
pub fn uid(name: &str) -> String {
    format!("nodeprobe-{name}")
}

fn datasource() -> Tree {
    map! { "type": "prometheus", "uid": "${datasource}" }
}

/// Letters for queries, as Grafana gives them.
fn letter(panel: &Panel, at: usize) -> String {
    if panel.view == View::Graph {
        return panel.queries[at].0.to_owned();
    }
    char::from(b'A' + u8::try_from(at).expect("few queries")).to_string()
}

fn matchers(variables: &[Variable]) -> Vec<(&str, String)> {
    variables
        .iter()
        .map(|variable| (variable.label, format!("{}=~\"${}\"", variable.label, variable.name)))
        .collect()
}

/// A query of a panel as Grafana is told it, and what is known of it.
#[track_caller]
pub fn query(dashboard: &Dashboard, panel: &Panel, at: usize) -> (String, Query) {
    let (legend, text) = panel.queries[at];
    let wrong = |problem: &str| -> ! { panic!("{}: {}: {text}: {problem}", dashboard.name, panel.title) };
    let query = promql::check(text).unwrap_or_else(|problem| wrong(&problem));
    for label in legend.split("{{").skip(1) {
        let label = label.split("}}").next().unwrap_or_default();
        if !query.labels.contains(label) {
            wrong(&format!("no label {label} for the legend"));
        }
    }
    for range in &query.ranges {
        if !["$__rate_interval", "$__range"].contains(&&text[range.clone()]) {
            wrong("a range that does not follow the time on the screen");
        }
    }
    (query.with_matchers(text, &matchers(dashboard.variables)), query)
}

/// Whole file.
#[track_caller]
pub fn document(dashboard: &Dashboard) -> String {
    let mut text = String::new();
    tree(dashboard).write(&mut text, 0);
    text + "\n"
}

fn tree(dashboard: &Dashboard) -> Tree {
    let (mut panels, mut y, mut id) = (Vec::new(), 0, 0);
    for row in dashboard.rows {
        id += 1;
        panels.push(map! {
            "id": id,
            "type": "row",
            "title": row.title,
            "collapsed": false,
            "gridPos": map! { "h": 1usize, "w": COLUMNS, "x": 0usize, "y": y },
            "panels": Vec::new(),
        });
        y += 1;
        let (mut x, mut height) = (0, 0);
        for panel in row.panels {
            if x + panel.width > COLUMNS {
                (x, y, height) = (0, y + height, 0);
            }
            id += 1;
            let place = map! { "h": panel.height(), "w": panel.width, "x": x, "y": y };
            panels.push(one(dashboard, panel, id, place));
            x += panel.width;
            height = height.max(panel.height());
        }
        y += height;
    }
    map! {
        "__requires": [
            map! { "type": "grafana", "id": "grafana", "name": "Grafana", "version": "9.0.0" },
            map! { "type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0" },
        ],
        "annotations": map! { "list": Vec::new() },
        "description": dashboard.about,
        "editable": true,
        "fiscalYearStartMonth": 0usize,
        "graphTooltip": 1usize,
        "id": Tree::Null,
        "links": [map! {
            "asDropdown": false,
            "icon": "external link",
            "includeVars": true,
            "keepTime": true,
            "tags": [Tree::from("nodeprobe")],
            "targetBlank": false,
            "title": "nodeprobe",
            "tooltip": "",
            "type": "dashboards",
            "url": "",
        }],
        "panels": panels,
        "refresh": "30s",
        "schemaVersion": 38usize,
        "style": "dark",
        "tags": [Tree::from("nodeprobe")],
        "templating": map! { "list": variables(dashboard.variables) },
        "time": map! { "from": "now-1h", "to": "now" },
        "timepicker": map! {},
        "timezone": "",
        "title": format!("nodeprobe / {}", dashboard.title),
        "uid": uid(dashboard.name),
        "version": 1usize,
        "weekStart": "",
    }
}

/// What a choice asks the data source.
pub fn values(variables: &[Variable], at: usize) -> String {
    let variable = &variables[at];
    let query = promql::check(&format!("group by ({}) ({})", variable.label, variable.of))
        .unwrap_or_else(|problem| panic!("{}: {problem}", variable.name));
    // Of what was chosen before it.
    let before: Vec<String> = matchers(&variables[..at])
        .into_iter()
        .filter(|(label, _)| query.selectors[0].family.labels.contains(*label))
        .map(|(_, matcher)| matcher)
        .collect();
    let before = if before.is_empty() { String::new() } else { format!("{{{}}}", before.join(", ")) };
    format!("label_values({}{before}, {})", variable.of, variable.label)
}

fn variables(variables: &[Variable]) -> Vec<Tree> {
    let mut list = vec![map! {
        "current": map! {},
        "hide": 0usize,
        "includeAll": false,
        "label": "Data source",
        "multi": false,
        "name": "datasource",
        "options": Vec::new(),
        "query": "prometheus",
        "refresh": 1usize,
        "regex": "",
        "skipUrlSync": false,
        "type": "datasource",
    }];
    for (at, variable) in variables.iter().enumerate() {
        let values = values(variables, at);
        list.push(map! {
            "allValue": ".*",
            "current": map! { "selected": true, "text": [Tree::from("All")], "value": [Tree::from("$__all")] },
            "datasource": datasource(),
            "definition": values.clone(),
            "hide": 0usize,
            "includeAll": true,
            "label": variable.title,
            "multi": true,
            "name": variable.name,
            "options": Vec::new(),
            "query": map! { "query": values, "refId": "Prometheus" },
            "refresh": 2usize,
            "regex": "",
            "skipUrlSync": false,
            "sort": 1usize,
            "type": "query",
        });
    }
    list
}

fn one(dashboard: &Dashboard, panel: &Panel, id: usize, place: Tree) -> Tree {
    let queries: Vec<(String, Query)> =
        (0..panel.queries.len()).map(|at| query(dashboard, panel, at)).collect();
    let wrong = |problem: &str| -> ! { panic!("{}: {}: {problem}", dashboard.name, panel.title) };
    let units: BTreeSet<&str> = queries.iter().map(|(_, query)| query.unit.grafana()).collect();
    let is_table = matches!(panel.view, View::Table | View::Graph);
    let unit = match panel.unit {
        Some(unit) => unit,
        None if is_table => Unit::Count.grafana(),
        None if units.len() == 1 => queries[0].1.unit.grafana(),
        None => wrong(&format!("units {units:?}: two panels, or a unit of its own")),
    };
    if is_table
        && queries.iter().any(|(_, query)| query.labels != queries[0].1.labels)
        && panel.view == View::Table
    {
        wrong("queries of a table have the same labels");
    }
    let mut described: Vec<String> = Vec::new();
    for selector in queries.iter().flat_map(|(_, query)| &query.selectors) {
        let line = format!("`{}`: {}", selector.family.name, selector.family.help);
        if !described.contains(&line) {
            described.push(line);
        }
    }
    let note = if panel.note.is_empty() { String::new() } else { format!("{}\n\n", panel.note) };
    let mut targets = Vec::new();
    for (at, (text, _)) in queries.iter().enumerate() {
        let (format, instant) = match panel.view {
            View::Table | View::Graph => ("table", true),
            View::Heatmap => ("heatmap", false),
            View::Stat => ("time_series", true),
            _ => ("time_series", false),
        };
        targets.push(map! {
            "datasource": datasource(),
            "editorMode": "code",
            "expr": text.as_str(),
            "format": format,
            "instant": instant,
            "legendFormat": if is_table { "" } else { panel.queries[at].0 },
            "range": !instant,
            "refId": letter(panel, at),
        });
    }
    let mut members = vec![
        ("id", id.into()),
        ("type", kind(panel.view).into()),
        ("title", panel.title.into()),
        ("description", format!("{note}{}", described.join("\n\n")).into()),
        ("datasource", datasource()),
        ("gridPos", place),
        ("fieldConfig", map! { "defaults": defaults(panel, unit), "overrides": overrides(panel, &queries) }),
        ("options", options(panel, unit)),
        ("targets", targets.into()),
    ];
    if is_table {
        members.push(("transformations", transformations(panel, &queries)));
    }
    Tree::Map(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn kind(view: View) -> &'static str {
    match view {
        View::Lines | View::Areas => "timeseries",
        View::Stat => "stat",
        View::Table => "table",
        View::Heatmap => "heatmap",
        View::Graph => "nodeGraph",
    }
}

fn steps(panel: &Panel) -> Tree {
    let step = |color: &str, value: Tree| map! { "color": color, "value": value };
    let steps = match panel.limits {
        _ if panel.is_state => vec![step("red", Tree::Null), step("green", 1.0.into())],
        Some((warning, critical)) => {
            vec![step("green", Tree::Null), step("orange", warning.into()), step("red", critical.into())]
        }
        None => vec![step("green", Tree::Null)],
    };
    map! { "mode": "absolute", "steps": steps }
}

fn defaults(panel: &Panel, unit: &str) -> Tree {
    let is_limited = panel.limits.is_some() || panel.is_state;
    let custom = match panel.view {
        View::Lines | View::Areas => map! {
            "drawStyle": "line",
            "fillOpacity": if panel.view == View::Areas { 40usize } else { 5 },
            "lineWidth": 1usize,
            "showPoints": "never",
            "stacking": map! {
                "group": "A",
                "mode": if panel.view == View::Areas { "normal" } else { "none" },
            },
            "thresholdsStyle": map! { "mode": if is_limited { "dashed" } else { "off" } },
        },
        View::Table => map! { "align": "auto", "filterable": true },
        _ => map! {},
    };
    let mut members = vec![("custom", custom), ("min", 0usize.into()), ("unit", unit.into())];
    if panel.view == View::Stat {
        members.push(("color", map! { "mode": "thresholds" }));
    }
    if panel.view != View::Heatmap {
        members.push(("thresholds", steps(panel)));
    }
    Tree::Map(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// A link of a table's cells to a dashboard, with the cell chosen there.
fn link(title: &str, name: &str, variable: &str) -> Tree {
    map! {
        "id": "links",
        "value": [map! {
            "title": title,
            "url": format!(
                "/d/{}?var-datasource=${{datasource}}&var-{variable}=${{__value.raw:percentencode}}&${{__url_time_range}}",
                uid(name)
            ),
        }],
    }
}

fn overrides(panel: &Panel, queries: &[(String, Query)]) -> Vec<Tree> {
    let property = |id: &str, value: Tree| map! { "id": id, "value": value };
    let of = |name: &str, properties: Vec<Tree>| {
        map! { "matcher": map! { "id": "byName", "options": name }, "properties": properties }
    };
    let mut list = Vec::new();
    if panel.view == View::Graph {
        list.push(of("mainstat", vec![property("unit", Unit::PerSecond.grafana().into())]));
    }
    if panel.view != View::Table {
        return list;
    }
    for (at, (title, _)) in panel.queries.iter().enumerate() {
        let mut properties = vec![property("unit", queries[at].1.unit.grafana().into())];
        // The limits are those of the first column.
        if at == 0 && (panel.limits.is_some() || panel.is_state) {
            properties.push(property("thresholds", steps(panel)));
            properties.push(property("custom.cellOptions", map! { "type": "color-text" }));
        }
        list.push(of(title, properties));
    }
    let labels = &queries[0].1.labels;
    if labels.contains("container_id") {
        list.push(of("Container", vec![link("This container", "containers", "container")]));
    }
    if labels.contains("instance") {
        list.push(of("Node", vec![link("This node", "node", "instance")]));
    }
    list
}

fn options(panel: &Panel, unit: &str) -> Tree {
    match panel.view {
        View::Lines | View::Areas => map! {
            "legend": map! {
                "calcs": [Tree::from("lastNotNull"), Tree::from("max")],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": true,
                "sortBy": "Last *",
                "sortDesc": true,
            },
            "tooltip": map! { "mode": "multi", "sort": "desc" },
        },
        View::Stat => map! {
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": map! { "calcs": [Tree::from("lastNotNull")], "fields": "", "values": false },
            "textMode": "auto",
        },
        View::Table => map! {
            "cellHeight": "sm",
            "showHeader": true,
            "sortBy": [map! { "desc": true, "displayName": panel.queries[0].0 }],
        },
        View::Heatmap => map! {
            "calculate": false,
            "cellGap": 1usize,
            "color": map! {
                "exponent": 0.5,
                "mode": "scheme",
                "reverse": false,
                "scale": "exponential",
                "scheme": "Oranges",
                "steps": 64usize,
            },
            "legend": map! { "show": true },
            "rowsFrame": map! { "layout": "auto" },
            "tooltip": map! { "show": true, "yHistogram": false },
            "yAxis": map! { "axisPlacement": "left", "reverse": false, "unit": unit },
        },
        View::Graph => map! {
            "edges": map! { "mainStatUnit": Unit::PerSecond.grafana() },
            "nodes": map! { "mainStatUnit": Unit::PerSecond.grafana() },
        },
    }
}

/// From one frame for each query to what the panel wants: one table, or frames with the names of a node graph's fields.
fn transformations(panel: &Panel, queries: &[(String, Query)]) -> Tree {
    let (mut hidden, mut renamed, mut order) = (Vec::new(), Vec::new(), Vec::new());
    if panel.view == View::Graph {
        for (name, _) in panel.queries {
            renamed.push((format!("Value #{name}"), Tree::from("mainstat")));
        }
        hidden.push(("Time".to_owned(), Tree::from(true)));
        let organize = map! {
            "excludeByName": Tree::Map(hidden),
            "indexByName": map! {},
            "renameByName": Tree::Map(renamed),
        };
        return [map! { "id": "organize", "options": organize }].into();
    }
    let labels = &queries[0].1.labels;
    let known = LABELS.iter().filter(|(label, _)| labels.contains(*label));
    let rest = labels.iter().map(String::as_str).filter(|label| LABELS.iter().all(|known| known.0 != *label));
    for label in known.clone().map(|known| known.0).chain(rest) {
        order.push((label.to_owned(), Tree::from(order.len())));
    }
    hidden.push(("Time".to_owned(), Tree::from(true)));
    renamed.extend(known.map(|(label, title)| ((*label).to_owned(), Tree::from(*title))));
    for (at, (title, _)) in panel.queries.iter().enumerate() {
        let field = if panel.queries.len() == 1 {
            "Value".to_owned()
        } else {
            format!("Value #{}", letter(panel, at))
        };
        order.push((field.clone(), Tree::from(order.len())));
        renamed.push((field, Tree::from(*title)));
    }
    let organize = map! {
        "excludeByName": Tree::Map(hidden),
        "indexByName": Tree::Map(order),
        "renameByName": Tree::Map(renamed),
    };
    [map! { "id": "merge", "options": map! {} }, map! { "id": "organize", "options": organize }].into()
}
