//! JSON of container runtimes: read by the functions that look, by the one that skips, and written again.

use nodeprobe::json::{Json, JsonError, Kind, write_string};

/// Reads one value of any kind by its own function.
fn read(json: &mut Json<'_>, text: &mut String) -> Result<(), JsonError> {
    match json.peek()? {
        Kind::Object => {
            json.begin_object()?;
            while json.next_key(text)? {
                read(json, text)?;
            }
        }
        Kind::Array => {
            json.begin_array()?;
            while json.next_element()? {
                read(json, text)?;
            }
        }
        Kind::String => {
            json.string(text)?;
            let mut written = Vec::new();
            write_string(&mut written, text);
            let mut again = String::new();
            Json::new(&written).string(&mut again)?;
            assert_eq!(*text, again);
        }
        Kind::Number => drop(json.number()?),
        Kind::Bool => drop(json.bool()?),
        Kind::Null => json.skip()?,
    }
    Ok(())
}

/// What libFuzzer calls.
pub fn run(data: &[u8]) {
    let mut skipped = Json::new(data);
    let by_skipping = skipped.skip().and_then(|()| skipped.end());
    let mut json = Json::new(data);
    let by_reading = read(&mut json, &mut String::new()).and_then(|()| json.end());
    assert_eq!(by_skipping.is_ok(), by_reading.is_ok(), "{by_skipping:?} {by_reading:?}");
}
