//! Any text is a prompt or an error, and a parsed prompt prints a text that parses to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tintype::prompt::{Chooser, Prompt, PromptOptions, Role, pieces};

fuzz_target!(|text: &str| {
    if let Ok(mut chooser) = Chooser::new(text, None, &PromptOptions::default()) {
        let _ = chooser.picture(0, 1);
    }
    for role in [Role::Positive, Role::Negative] {
        let Ok(prompt) = Prompt::parse(text, role) else {
            continue;
        };
        let printed = prompt.to_string();
        let again = Prompt::parse(&printed, role).expect("what was printed parses");
        assert_eq!(again.to_string(), printed);
        assert_eq!(again.parts.len(), prompt.parts.len());
        if let Ok(schedule) = prompt.schedule(5) {
            for text in &schedule.texts {
                let _ = pieces(text);
            }
        }
    }
});
