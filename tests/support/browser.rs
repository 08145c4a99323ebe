//! A real browser without a window that looks at a page, and metrics that were made up for it to draw.

use std::path::Path;

use super::puppet::Puppet;

/// A Chromium, and the python3 process that drives it (`browser.py`).
pub struct Browser {
    puppet: Puppet,
}

impl Browser {
    /// Starts one.
    #[track_caller]
    pub fn start() -> Browser {
        let mut puppet = Puppet::start(None, None);
        puppet.run(&format!(
            "sys.path.insert(0, '{}/tests/support')\nfrom browser import Browser\nimport stage\nbrowser = Browser()",
            env!("CARGO_MANIFEST_DIR")
        ));
        Browser { puppet }
    }

    /// Has the window this size, in pixels of style sheets.
    #[track_caller]
    pub fn view(&mut self, width: u32, height: u32, scale: u32, dark: bool) {
        let (dark, mobile) = (python(dark), python(width < 600));
        self.puppet.run(&format!("browser.view({width}, {height}, {scale}, {dark}, {mobile})"));
    }

    /// Goes there.
    #[track_caller]
    pub fn open(&mut self, url: &str) {
        self.puppet.run(&format!("browser.open('{url}')"));
    }

    /// Opens the page of an agent with metrics that are `stage.WHAT`; the address.
    #[track_caller]
    pub fn open_stage(&mut self, agent: std::net::SocketAddr, what: &str) {
        self.puppet.run(&format!("it = stage.Stage('{agent}', stage.{what})\nbrowser.open(it.url)"));
    }

    /// The value of a JavaScript expression as text; what is not a string as JSON.
    #[track_caller]
    pub fn js(&mut self, expression: &str) -> String {
        self.puppet.run(&format!("out = browser.js({expression:?})"))
    }

    /// The value of one that is a number.
    #[track_caller]
    pub fn number(&mut self, expression: &str) -> f64 {
        let text = self.js(expression);
        text.parse().unwrap_or_else(|_| panic!("{expression} is {text:?}"))
    }

    /// Waits until a JavaScript expression is true.
    #[track_caller]
    pub fn until(&mut self, condition: &str) {
        self.puppet.run(&format!("browser.until({condition:?})"));
    }

    /// Presses a key: its name, its number, and the text it makes.
    #[track_caller]
    pub fn key(&mut self, name: &str, number: u32, text: &str) {
        self.puppet.run(&format!("browser.key({name:?}, {number}, {text:?})"));
    }

    /// Types text where the focus is.
    #[track_caller]
    pub fn type_text(&mut self, text: &str) {
        self.puppet.run(&format!("browser.call('Input.insertText', text={text:?})"));
    }

    /// Writes what is in the window to a PNG file.
    #[track_caller]
    pub fn picture(&mut self, path: &Path) {
        self.puppet.run(&format!("browser.picture('{}')", path.display()));
    }

    /// What it complained about so far: exceptions, errors on the console, violations of the content security policy, dialogs,
    /// requests to elsewhere.
    #[track_caller]
    pub fn problems(&mut self) -> String {
        self.puppet.run("browser.js('1')\nout = '\\n'.join(browser.problems)")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.puppet.run("browser.close()");
        }
    }
}

fn python(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}
