//! All subjects.

use std::borrow::Cow;

use crate::bare::{DIVERT_EVERY, DIVERTED, Work};
use crate::subject::{BARE, Backlog, CONTROL, Component, Count, Delivery, End, Program, Subject};

/// Where records end, unless something else is said.
const SINK: End = End { suffix: "", count: Count::All, is_own: false };

/// The limit.
pub(crate) fn bare() -> Subject {
    let program = Program::Bare(Work::Copy);
    Subject { name: BARE.into(), program, ends: vec![SINK], baseline: None, backlog: None, delivery: None }
}

/// The limit once more. As far as it is from the first, so little do the other figures say.
pub(crate) fn control() -> Subject {
    Subject { name: CONTROL.into(), ..bare() }
}

/// The limit, with the work of `json-transform` done natively.
pub(crate) fn bare_json() -> Subject {
    Subject { name: BARE_JSON.into(), program: Program::Bare(Work::Json), ..bare() }
}

const BARE_JSON: &str = "bare-json";

/// The limit, with one record in a hundred going to another topic as a dead letter does: what that costs without a router.
pub(crate) fn bare_divert(name: &'static str) -> Subject {
    let good = End { count: Count::AllBut(DIVERT_EVERY), ..SINK };
    let other = End { suffix: DIVERTED, count: Count::Every(DIVERT_EVERY), is_own: false };
    Subject { name: name.into(), program: Program::Bare(Work::Divert), ends: vec![good, other], ..bare() }
}

/// A route without a stage.
pub(crate) fn no_stage() -> Subject {
    router(
        "no-stage",
        &[],
        r#"
[[routes]]
name = "copy"
from = ["${SOURCE}-0"]
[[routes.outputs]]
topic = "${SINK}"
"#,
    )
}

/// A plugin that looks at nothing: what the border costs.
pub(crate) fn identity() -> Subject {
    one_stage("identity", "identity", "", "")
}

/// The same, that delivers so.
pub(crate) fn identity_delivered(name: &'static str, delivery: Delivery) -> Subject {
    Subject { name: name.into(), delivery: Some(delivery), ..identity() }
}

/// The same, with these lines of `[telemetry]`; `${COLLECTOR}` takes what it sends.
pub(crate) fn identity_told(name: &'static str, telemetry: &str) -> Subject {
    let identity = identity();
    let Program::Router { configuration, components } = identity.program else {
        unreachable!("one stage is a router's")
    };
    let configuration =
        format!("{configuration}[telemetry]\nendpoint = \"http://${{COLLECTOR}}\"\n{telemetry}\n").into();
    Subject { name: name.into(), program: Program::Router { configuration, components }, ..identity }
}

/// The same, of records that have their partition from their key, as is the default.
pub(crate) fn identity_by_key() -> Subject {
    let configuration = format!("[plugins.identity]\ncomponent = \"identity.wasm\"\n{}", route(0, r#""identity""#));
    router("identity by key", &["identity"], configuration)
}

/// A plugin that looks at a header of each event, and keeps them all: as many records are written as by the limit.
pub(crate) fn header_filter() -> Subject {
    one_stage("header-filter", "header-filter", r#"config = { header = "environment", drop = ["staging"] }"#, "")
}

/// The same plugin, which drops half of the events.
pub(crate) fn header_filter_half() -> Subject {
    let half =
        one_stage("header-filter-half", "header-filter", r#"config = { header = "environment", drop = ["test"] }"#, "");
    Subject { ends: vec![End { count: Count::Every(2), ..SINK }], ..half }
}

/// A plugin that reads each value as JSON, and keeps them all by one of its fields.
pub(crate) fn json_filter() -> Subject {
    one_stage("json-filter", "json-filter", r#"config = { currency = "EUR" }"#, "")
}

/// A plugin that reads each value as JSON, changes it and writes it again.
pub(crate) fn json_transform() -> Subject {
    let transform = one_stage("json-transform", "json-transform", "", "");
    Subject { baseline: Some(BARE_JSON), ..transform }
}

/// A plugin that makes three events of one, each for a topic of its own.
pub(crate) fn fan_out() -> Subject {
    let fan_out = router(
        "fan-out",
        &["fan-out"],
        r#"
[plugins.fan-out]
component = "fan-out.wasm"
[[routes]]
name = "copy"
from = ["${SOURCE}-0"]
stages = ["fan-out"]
[[routes.outputs]]
port = "a"
topic = "${SINK}-a"
[[routes.outputs]]
port = "b"
topic = "${SINK}-b"
[[routes.outputs]]
port = "c"
topic = "${SINK}-c"
"#,
    );
    Subject { ends: ["-a", "-b", "-c"].map(|suffix| End { suffix, ..SINK }).into(), ..fan_out }
}

/// A plugin that fails in this way (`reject`, `trap`, `loop`, which a deadline ends) on one event in so many, or, without a number, on none.
pub(crate) fn faulty(name: &'static str, fault: &str, every: Option<u64>) -> Subject {
    let every_key = every.map_or_else(String::new, |every| format!(", every = {every}"));
    let config = format!("config = {{ fault = \"{fault}\"{every_key} }}\nlimits = {{ deadline = \"50ms\" }}");
    let faulty = one_stage(name, "faulty", &config, r#"dead_letter = { topic = "${SINK}-dead-letter" }"#);
    let Some(every) = every else { return faulty };
    let good = End { count: Count::AllBut(every), ..SINK };
    let dead = End { suffix: "-dead-letter", count: Count::Every(every), is_own: true };
    Subject { ends: vec![good, dead], ..faulty }
}

/// A plugin that fails on no event, while so many wait in the retry topic, none of the keys that come. It keeps the order of
/// keys, so every record is looked up among those that wait.
pub(crate) fn behind(name: &'static str, parked: u64) -> Subject {
    const ROUTE: &str = "ordering = \"key\"\nretry = { initial = \"1d\", max = \"1d\" }";
    let with = |fault: &str| one_stage(name, "faulty", &format!("config = {{ {fault} }}"), ROUTE);
    let Program::Router { configuration: parking, .. } = with(r#"fault = "retry", every = 1"#).program else {
        unreachable!("one stage is a router's")
    };
    Subject { backlog: Some(Backlog { records: parked, parking }), ..with(r#"fault = "retry""#) }
}

/// [`identity`], handed so many records at most in each call.
pub(crate) fn identity_by(records: u32) -> Subject {
    let identity = one_stage("", "identity", "", &format!("batch = {{ records = {records} }}"));
    Subject { name: format!("identity by {records}").into(), ..identity }
}

/// So many routes, each with a source topic of its own, and all with one plugin.
pub(crate) fn routes(count: u32) -> Subject {
    let configuration: String = (0..count).map(|number| route(number, r#""identity""#)).collect();
    router("identity", &["identity"], format!("[plugins.identity]\ncomponent = \"identity.wasm\"\n{configuration}"))
}

/// So many routes, each with a source topic and a plugin of its own.
pub(crate) fn plugins(count: u32) -> Subject {
    let (tables, components) = copies(count);
    let routes: String = (0..count).map(|number| route(number, &format!(r#""identity-{number}""#))).collect();
    Subject { program: Program::Router { configuration: (tables + &routes).into(), components }, ..identity() }
}

/// One route of so many stages, each a plugin of its own.
pub(crate) fn stages(count: u32) -> Subject {
    let (tables, components) = copies(count);
    let stages: Vec<String> = (0..count).map(|number| format!(r#""identity-{number}""#)).collect();
    let configuration = (tables + &route(0, &stages.join(", "))).into();
    let name = format!("identity, {count} times").into();
    Subject { name, program: Program::Router { configuration, components }, ..identity() }
}

/// The tables of so many plugins, which differ in their digests and in nothing else.
fn copies(count: u32) -> (String, Vec<Component>) {
    let table = |number| format!("[plugins.identity-{number}]\ncomponent = \"identity-{number}.wasm\"\n");
    let components = (0..count).map(|number| Component { plugin: "identity", copy: Some(number) });
    ((0..count).map(table).collect(), components.collect())
}

fn route(number: u32, stages: &str) -> String {
    format!(
        r#"
[[routes]]
name = "copy-{number}"
from = ["${{SOURCE}}-{number}"]
stages = [{stages}]
[[routes.outputs]]
topic = "${{SINK}}"
"#
    )
}

/// A route of one stage, with more lines for the plugin, and for the route. Records keep their partition, as in the limit.
fn one_stage(name: &'static str, plugin: &'static str, of_plugin: &str, of_route: &str) -> Subject {
    let configuration = format!(
        r#"
[plugins.{plugin}]
component = "{plugin}.wasm"
{of_plugin}
[[routes]]
name = "copy"
from = ["${{SOURCE}}-0"]
stages = ["{plugin}"]
{of_route}
[[routes.outputs]]
topic = "${{SINK}}"
partition = "same"
"#
    );
    router(name, &[plugin], configuration)
}

fn router(name: &'static str, plugins: &[&'static str], configuration: impl Into<Cow<'static, str>>) -> Subject {
    let components = plugins.iter().map(|plugin| Component { plugin, copy: None }).collect();
    let program = Program::Router { configuration: configuration.into(), components };
    Subject { name: name.into(), program, ends: vec![SINK], baseline: None, backlog: None, delivery: None }
}
