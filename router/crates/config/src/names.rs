//! Names: which Kafka allows, and which was meant.

/// Longest name of a topic in Kafka.
pub(crate) const TOPIC_MAX: usize = 249;

/// Longest name of a router or route: topic names are made of them.
pub(crate) const NAME_MAX: usize = 80;

/// Why Kafka would not take this as the name of a topic, as a clause; `None` where it would.
#[must_use]
pub fn topic_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty".to_owned());
    }
    if name == "." || name == ".." {
        return Some("`.` and `..` are reserved".to_owned());
    }
    if let Some(wrong) = name.chars().find(|c| !is_legal(*c)) {
        return Some(format!("{wrong:?} is not a letter, a digit, `.`, `_` or `-`"));
    }
    (name.len() > TOPIC_MAX).then(|| format!("it has {} characters, and Kafka takes {TOPIC_MAX}", name.len()))
}

/// Why this is not the name of a router, a route or a plugin, as a clause; `None` where it is.
pub(crate) fn name_fault(name: &str) -> Option<String> {
    topic_fault(name).or_else(|| {
        (name.len() > NAME_MAX).then(|| format!("it has {} characters, and {NAME_MAX} are allowed", name.len()))
    })
}

const fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// The name that Kafka's metrics give a topic: topics that share one can't both be created.
pub(crate) fn metric_name(topic: &str) -> String {
    topic.replace('.', "_")
}

/// The candidate that was most likely meant, if any is close.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// A remedy for an unknown name: the nearest one, else the list of all.
#[must_use]
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(nearest) = nearest(name, candidates.clone()) {
        return format!("did you mean `{nearest}`?");
    }
    let all: Vec<String> = candidates.into_iter().map(|candidate| format!("`{candidate}`")).collect();
    if all.is_empty() { "there is none".to_owned() } else { format!("there are {}", all.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_the_rules_of_kafka() {
        for name in ["a", "orders.v1", "A-b_c.9", &"x".repeat(249)] {
            assert_eq!(topic_fault(name), None, "{name}");
        }
        for name in ["", ".", "..", "a b", "ü", "a/b", &"x".repeat(250)] {
            assert!(topic_fault(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        assert_eq!(nearest("enrihc", ["validate", "enrich"]), Some("enrich"));
        assert_eq!(nearest("zzz", ["validate", "enrich"]), None);
    }
}
