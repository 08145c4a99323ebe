//! The page at `/`: draws what the metrics say, in the browser.
//!
//! `build/page.rs` joins `page.html`, `page.css` and the scripts into one document, the scripts with short names:
//! `metrics.js` reads the text format, `draw.js` makes elements and figures, `map.js` the service map, `page.js` the rest,
//! and decides when. It is in the binary in its gzip form, and unpacked when somebody asks for it.

use crate::limits;
use crate::sys::zlib;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/page.html.gz"));

/// Only the script and the style of the page run, and they ask nobody but where they came from.
const POLICY: &str = env!("PAGE_POLICY");

/// The document, for a telemetry path and with or without a link to `/maps`.
pub fn document(telemetry_path: &str, has_maps: bool) -> Vec<u8> {
    let page = zlib::gunzip(PACKED, limits::PAGE_BYTES).unwrap_or_default();
    let maps = if has_maps { " · <a href=\"/maps\">maps</a>" } else { "" };
    let page = String::from_utf8(page).unwrap_or_default();
    page.replace("{{telemetry}}", &escape(telemetry_path)).replace("{{maps}}", maps).into_bytes()
}

/// Its entity tag, the same for both of its encodings and so a weak one (RFC 9110, section 8.8.3).
pub fn entity_tag(telemetry_path: &str, has_maps: bool) -> String {
    // FNV-1a, as good as any for telling settings apart.
    let settings = [telemetry_path.as_bytes(), &[u8::from(has_maps)]].concat();
    let hash = settings
        .iter()
        .fold(0x811c_9dc5u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("W/\"{}{hash:08x}\"", env!("PAGE_MARK"))
}

/// The headers it is sent with. A browser may keep it, but asks each time whether it is still the same.
pub fn headers(entity_tag: &str) -> [(&'static str, &str); 6] {
    [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", POLICY),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-cache"),
        ("Vary", "Accept-Encoding"),
        ("ETag", entity_tag),
    ]
}

/// For text and for attributes in double quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_knows_its_links() {
        let page = String::from_utf8(document("/a\"><b", true)).unwrap();
        assert!(page.contains("href=\"/a&quot;&gt;&lt;b\""));
        assert!(page.contains("href=\"/maps\""));
        assert!(!page.contains("{{"), "a placeholder is left");
        let page = String::from_utf8(document("/metrics", false)).unwrap();
        assert!(!page.contains("/maps"));
        assert!(page.ends_with("</html>\n"));
    }

    #[test]
    fn each_setting_has_its_tag() {
        let tags = [("/metrics", false), ("/metrics", true), ("/m", false)];
        let mut tags = tags.map(|(path, has_maps)| entity_tag(path, has_maps)).to_vec();
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 3);
        assert!(tags.iter().all(|tag| tag.starts_with("W/\"") && tag.ends_with('"') && tag.len() == 28));
    }
}
