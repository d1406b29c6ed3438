//! The complete example, as `auditferry config example` prints it. Tests hold it against the code:
//! it loads as it stands, every key of every section occurs in it, and what is commented out is
//! spelled as the code spells it.

/// The example configuration, YAML with comments.
pub const EXAMPLE: &str = include_str!("example.yaml");

#[cfg(test)]
mod tests {
    use super::EXAMPLE;
    use crate::config::file::ALL_KEYS;
    use crate::config::load::load_text;

    #[test]
    fn the_example_loads_as_it_stands() {
        let loaded = load_text("example.yaml", EXAMPLE, &|_| None).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(loaded.config.sinks.len(), 7);
        assert_eq!(loaded.config.tenants.len(), 2);
    }

    #[test]
    fn every_key_occurs_in_the_example() {
        for (section, keys) in ALL_KEYS {
            for key in *keys {
                let there = EXAMPLE.match_indices(&format!("{key}:")).any(|(at, _)| {
                    EXAMPLE[..at].chars().next_back().is_none_or(|before| !before.is_alphanumeric() && before != '_')
                });
                assert!(there, "`{key}` of {section} is not in example.yaml");
            }
        }
    }

    /// `#key: …` without a space after the sign is a setting that is switched off, `# …` is prose.
    #[test]
    fn what_is_commented_out_is_known_too() {
        let all: String = EXAMPLE
            .lines()
            .map(|line| {
                let indent = line.len() - line.trim_start().len();
                let rest = &line[indent..];
                let switched_off =
                    rest.strip_prefix('#').filter(|after| after.starts_with(|c: char| c.is_ascii_lowercase()));
                format!("{}{}\n", &line[..indent], switched_off.unwrap_or(rest))
            })
            .collect();
        let faults =
            load_text("all.yaml", &all, &|_| None).expect_err("the clock and the directory of tenants are refused");
        let texts: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
        assert_eq!(texts.iter().filter(|text| text.contains(": error: ")).count(), 2, "{texts:#?}");
        assert!(
            texts.iter().any(|text| text.contains("tenants.d")) && texts.iter().any(|text| text.contains("`clock`"))
        );
    }
}
