//! From a map's key to labels.

use super::config;
use super::rows::RowLabels;
use crate::decoders::{Asks, Chain, Names, Options, Outcome};
use crate::error::{Error, Reason, Result};

/// How the keys of one map become labels.
pub struct Keys {
    labels: Vec<Label>,
    /// Bytes all labels take.
    size: usize,
}

struct Label {
    name: Box<str>,
    size: usize,
    padding: usize,
    chain: Chain,
}

impl Keys {
    /// Builds the decoders of `labels`.
    ///
    /// # Errors
    /// A line that names the place in the file.
    pub fn build(path: &str, labels: &[config::Label], options: Options) -> Result<Keys> {
        let build = |label: &config::Label| {
            let chain = Chain::build(&label.decoders, options).map_err(|(mark, message)| {
                let finding = config::Finding { path: path.into(), mark, fatal: true, message };
                Error::new(Reason::Failed, finding.to_string())
            })?;
            Ok(Label { name: label.name.clone(), size: label.size, padding: label.padding, chain })
        };
        let labels = labels.iter().map(build).collect::<Result<Vec<_>>>()?;
        let size = labels.iter().map(|label| label.size + label.padding).sum();
        Ok(Keys { labels, size })
    }

    /// Bytes of a key that all labels together take.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many labels a key gives.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// True when keys give no labels.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Whether a decoder asks for `what` to be known.
    pub fn ask(&self, what: Asks) -> bool {
        self.labels.iter().any(|label| label.chain.asks(what))
    }

    /// The first `count` labels' names in alphabetical order, and where in it each of them is.
    pub fn sorted_names(&self, count: usize) -> (Box<[Box<str>]>, Box<[usize]>) {
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|&at| &self.labels[at].name);
        let names = order.iter().map(|&at| self.labels[at].name.clone()).collect();
        let mut places = vec![0; count];
        order.iter().enumerate().for_each(|(place, &at)| places[at] = place);
        (names, places.into())
    }

    /// Around a reading of the whole map: what no key asked for in between is forgotten.
    pub fn begin(&mut self) {
        self.labels.iter_mut().for_each(|label| label.chain.begin());
    }

    /// See [`Keys::begin`].
    pub fn end(&mut self) {
        self.labels.iter_mut().for_each(|label| label.chain.end());
    }

    /// Appends the first `count` labels of `key` to `out`.
    ///
    /// # Errors
    /// What a decoder says to its bytes, or a key that is too short.
    pub fn decode(
        &mut self,
        names: &mut Names<'_>,
        count: usize,
        mut key: &[u8],
        out: &mut RowLabels,
    ) -> Result<Outcome, String> {
        for label in &mut self.labels[..count] {
            let Some((field, rest)) = key.split_at_checked(label.size) else {
                return Err(format!("label {}: {} bytes left of {}", label.name, key.len(), label.size));
            };
            let outcome = out
                .push(|out| label.chain.decode(names, field, out))
                .map_err(|error| format!("label {}: {error}", label.name))?;
            if outcome == Outcome::Skip {
                return Ok(Outcome::Skip);
            }
            // The padding of the last label may be cut off in a perf event.
            key = rest.get(label.padding..).unwrap_or_default();
        }
        Ok(Outcome::Text)
    }

    /// The text label number `index` has for `field`, in `out`.
    ///
    /// # Errors
    /// As above.
    pub fn decode_one(
        &mut self,
        names: &mut Names<'_>,
        index: usize,
        field: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Outcome, String> {
        let label = &mut self.labels[index];
        label.chain.decode(names, field, out).map_err(|error| format!("label {}: {error}", label.name))
    }

    /// Where in a key the bytes of label number `index` begin, and how many they are.
    pub fn field(&self, index: usize) -> std::ops::Range<usize> {
        let begin = self.labels[..index].iter().map(|label| label.size + label.padding).sum();
        begin..begin + self.labels[index].size
    }
}
