//! The text of a configuration: whatever it says, there is a plan, or mistakes that can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let variables = |name: &str| (name != "UNSET").then(|| "value".to_owned());
    if let Err(errors) = pointsman_config::compile(text, "fuzz.toml", &variables) {
        assert!(!errors.mistakes().is_empty(), "a refusal without a reason");
        assert!(!errors.render(true).is_empty());
    }
});
