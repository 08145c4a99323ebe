//! What a dashboard is made of. A panel is a row in the table of its dashboard; units, descriptions, places and identifiers
//! follow.

/// A dashboard: one file of `deploy/grafana`.
pub struct Dashboard {
    /// Of the file and, behind `nodeprobe-`, the identifier that links use; never changes.
    pub name: &'static str,
    pub title: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// What can be chosen at the top, in this order.
    pub variables: &'static [Variable],
    pub rows: &'static [Row],
}

/// A choice at the top: every query of a family with the label gets a matcher on it.
pub struct Variable {
    pub name: &'static str,
    /// As people read it.
    pub title: &'static str,
    pub label: &'static str,
    /// The family whose values there are.
    pub of: &'static str,
}

/// Nodes, by the address they are scraped at.
pub const NODE: Variable =
    Variable { name: "instance", title: "Node", label: "instance", of: "nodeprobe_build_info" };

/// Containers of these nodes.
pub const CONTAINER: Variable = Variable {
    name: "container",
    title: "Container",
    label: "container_id",
    of: "container_resources_cpu_usage_seconds_total",
};

/// A headline with panels below it, from left to right in lines of 24 columns.
pub struct Row {
    pub title: &'static str,
    pub panels: &'static [Panel],
}

/// How a panel shows its queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Lines over time.
    Lines,
    /// One upon the other.
    Areas,
    /// The last values as numbers.
    Stat,
    /// A line for each set of labels, a column for each query.
    Table,
    /// Buckets over time.
    Heatmap,
    /// The queries `nodes` and `edges`.
    Graph,
}

/// One panel.
#[derive(Clone, Copy)]
pub struct Panel {
    pub view: View,
    pub title: &'static str,
    /// Columns of 24.
    pub width: usize,
    /// Legends (headlines of columns, in a table) with their queries.
    pub queries: &'static [(&'static str, &'static str)],
    /// Instead of what the names of the metrics say.
    pub unit: Option<&'static str>,
    /// From where on values are orange, and red.
    pub limits: Option<(f64, f64)>,
    /// 1 is good, 0 is red.
    pub is_state: bool,
    /// Said in front of what the metrics say of themselves.
    pub note: &'static str,
}

const fn panel(
    view: View,
    title: &'static str,
    width: usize,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel { view, title, width, queries, unit: None, limits: None, is_state: false, note: "" }
}

/// Lines over time.
pub const fn lines(
    title: &'static str,
    width: usize,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    panel(View::Lines, title, width, queries)
}

/// Areas, one upon the other.
pub const fn areas(
    title: &'static str,
    width: usize,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    panel(View::Areas, title, width, queries)
}

/// A number.
pub const fn stat(
    title: &'static str,
    width: usize,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    panel(View::Stat, title, width, queries)
}

/// A table; all queries have the same labels.
pub const fn table(
    title: &'static str,
    width: usize,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    panel(View::Table, title, width, queries)
}

/// Buckets over time; the query is by `le`.
pub const fn heatmap(
    title: &'static str,
    width: usize,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    panel(View::Heatmap, title, width, queries)
}

/// Nodes and edges.
pub const fn graph(
    title: &'static str,
    width: usize,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    panel(View::Graph, title, width, queries)
}

impl Panel {
    /// With this unit.
    pub const fn unit(self, unit: &'static str) -> Panel {
        Panel { unit: Some(unit), ..self }
    }

    /// Orange from `warning` on, red from `critical` on.
    pub const fn limits(self, warning: f64, critical: f64) -> Panel {
        Panel { limits: Some((warning, critical)), ..self }
    }

    /// 1 is good, 0 is red.
    pub const fn state(self) -> Panel {
        Panel { is_state: true, ..self }
    }

    /// With this in front of its description.
    pub const fn note(self, note: &'static str) -> Panel {
        Panel { note, ..self }
    }

    /// Lines of the grid it takes.
    pub fn height(&self) -> usize {
        match self.view {
            View::Stat => 4,
            View::Lines | View::Areas | View::Heatmap => 8,
            View::Table => 10,
            View::Graph => 18,
        }
    }
}
