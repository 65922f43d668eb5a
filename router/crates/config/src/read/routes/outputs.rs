//! `[[routes.outputs]]`.

use super::{condition, topic};
use crate::raw::{At, Chosen, Output};
use crate::read::{Field, Table};

/// Longest name of a port, in bytes: plugins name them at run time, and metrics count by them.
const PORT_MAX: usize = 64;

pub(super) fn read(route: &Table<'_>) -> Vec<Output> {
    let remedy = "add [[routes.outputs]] with a `topic` under the route";
    let Some(field) = route.required("outputs", remedy) else { return Vec::new() };
    let outputs = field.array("write each output as [[routes.outputs]]").unwrap_or_default();
    if outputs.is_empty() && field.value.is_array() {
        field.wrong("is empty", remedy);
    }
    let path = field.title().trim_matches('`').to_owned();
    outputs
        .into_iter()
        .enumerate()
        .filter_map(|(index, field)| output(&field.called(format!("{path}[{}]", index + 1))))
        .collect()
}

fn output(field: &Field<'_>) -> Option<Output> {
    let table = field.table()?;
    let select = select(&table);
    let topic = table.required("topic", "add `topic = \"…\"`").and_then(|field| topic(&field));
    let same_partition =
        table.get("partition").and_then(|field| field.choice(&[("key", false), ("same", true)])).unwrap_or(false);
    let span = table.span.clone();
    table.finish();
    Some(Output { select, topic, same_partition, span })
}

fn select(table: &Table<'_>) -> Chosen {
    match (table.get("port"), table.get("when")) {
        (None, None) => Chosen::Default,
        (Some(port), None) => self::port(&port).map_or(Chosen::Unknown, Chosen::Port),
        (None, Some(when)) => condition(&when).map_or(Chosen::Unknown, Chosen::When),
        (Some(port), Some(when)) => {
            table.findings().conflict(
                &when.key_span,
                (&port.key_span, "and here"),
                format!("{} has both `port` and `when`", table.title()),
                "keep one: `port` takes what a plugin sends to that port, `when` chooses among the rest",
            );
            Chosen::Unknown
        }
    }
}

fn port(field: &Field<'_>) -> Option<At<String>> {
    let text = field.text("\"eu\"")?;
    if text.value.is_empty() || text.value.len() > PORT_MAX {
        field.wrong(
            "is not the name of a port",
            format!("write 1 to {PORT_MAX} bytes; leave `port` out for the default one"),
        );
        return None;
    }
    Some(At::new(text.value, text.span))
}
