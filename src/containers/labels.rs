//! Which labels of containers `container_info` has: `--container-label`, and what names labels may have there.

use super::identity::Metadata;
use crate::limits;

/// What `container_info` has by itself.
const TAKEN: &[&str] = &[
    "app_id",
    "az",
    "container_id",
    "image",
    "machine_id",
    "region",
    "system_uuid",
    "systemd_triggered_by",
    "systemd_type",
];

/// What stands in front of the name of a container's own label, as kube-state-metrics has it.
const PREFIX: &str = "label_";

/// The longest name of a label: Kubernetes allows 253 and a slash and 63.
const MAX_NAME: usize = 320;

/// The longest value that is shown, in bytes: some labels hold whole files.
const MAX_VALUE: usize = 512;

/// The labels of containers to be shown, and what they are called there. None by default: each is a join away from every
/// series, and runtimes and orchestrators put ids and hashes there by the dozen.
#[derive(Debug, Clone, Default)]
pub struct LabelKeys(Vec<(Box<str>, Box<str>)>);

impl LabelKeys {
    /// Adds the labels named in `value`, separated by commas, blanks or lines.
    ///
    /// # Errors
    /// What should have stood there, and why it does not.
    pub fn add(&mut self, value: &str) -> Result<(), String> {
        for key in value.split([',', ' ', '\n', '\r']).filter(|key| !key.is_empty()) {
            let name = label_name(key);
            match self.0.iter().find(|(_, known)| **known == *name) {
                Some((known, _)) if **known == *key => continue,
                // Whichever of the two were shown, a reader would take it for the other.
                Some((known, _)) => return Err(format!("a label beside {known}: both would be {name}")),
                None if key.len() > MAX_NAME => return Err(format!("a name of at most {MAX_NAME} bytes")),
                None if self.0.len() >= limits::CONTAINER_LABELS => {
                    return Err(format!("among the first {} labels", limits::CONTAINER_LABELS));
                }
                None => self.0.push((key.into(), name.into())),
            }
        }
        Ok(())
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Those that the container has, in the order of the flags, under their names in `container_info`.
    pub fn of<'a>(&'a self, metadata: &'a Metadata) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(|(key, name)| {
            let value = metadata.label(key)?;
            Some((&**name, value.get(..value.floor_char_boundary(MAX_VALUE))?))
        })
    }
}

/// `app.kubernetes.io/name` is `label_app_kubernetes_io_name`: what a label of Prometheus cannot have is an underscore.
fn label_name(key: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    PREFIX.chars().chain(key.chars().map(allowed)).collect()
}

/// Whether a rule may add the label `name` to `container_info`.
///
/// # Errors
/// Why not.
pub fn check_label(name: &str) -> Result<(), String> {
    let first = name.chars().next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if first.is_ascii_digit() || !name.chars().all(plain) || !(1..=MAX_NAME).contains(&name.len()) {
        return Err(format!("{name:?} cannot be the name of a label (letters, digits and underscores)"));
    }
    if TAKEN.contains(&name) {
        return Err(format!("container_info has a label {name} already"));
    }
    if name.starts_with("__") || name.starts_with(PREFIX) {
        return Err(format!("labels that start with __ or {PREFIX} are others' ({name})"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::classify::Runtime;

    fn keys(values: &[&str]) -> Result<LabelKeys, String> {
        let mut keys = LabelKeys::default();
        values.iter().try_for_each(|value| keys.add(value)).map(|()| keys)
    }

    #[test]
    fn only_labels_asked_for() {
        let mut metadata = Metadata::new(Runtime::Docker);
        for (key, value) in
            [("app.kubernetes.io/name", "shop"), ("tier", "front"), ("secret", "x"), ("é", "y")]
        {
            metadata.labels.push((key.to_owned(), value.to_owned()));
        }
        let shown = |values: &[&str]| -> Vec<(String, String)> {
            let keys = keys(values).unwrap();
            keys.of(&metadata).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(shown(&[]), []);
        let both = [pair("label_tier", "front"), pair("label_app_kubernetes_io_name", "shop")];
        assert_eq!(shown(&["tier,app.kubernetes.io/name", "tier", "absent"]), both);
        assert_eq!(shown(&["é"]), [pair("label__", "y")]);
        metadata.labels.push(("long".to_owned(), format!("x{}", "é".repeat(400))));
        let keys = keys(&["long"]).unwrap();
        assert_eq!(keys.of(&metadata).next().unwrap().1, format!("x{}", "é".repeat(255)));
    }

    #[test]
    fn labels_that_would_be_one_are_refused() {
        let error = keys(&["a.b", "c a-b"]).unwrap_err();
        assert_eq!(error, "a label beside a.b: both would be label_a_b");
        assert!(keys(&[&"x".repeat(321)]).is_err());
        let many: Vec<String> = (0..=limits::CONTAINER_LABELS).map(|number| format!("k{number}")).collect();
        assert_eq!(keys(&[&many.join(",")]).unwrap_err(), "among the first 32 labels");
    }

    #[test]
    fn names_that_rules_may_use() {
        for name in ["team", "_x", "Team_1"] {
            assert_eq!(check_label(name), Ok(()), "{name}");
        }
        for name in
            ["", "1a", "a-b", "é", "image", "az", "container_id", "__name__", "label_x", &"x".repeat(400)]
        {
            assert!(check_label(name).is_err(), "{name}");
        }
    }
}
