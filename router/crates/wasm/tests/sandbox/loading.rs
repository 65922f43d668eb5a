//! Files that are no plugins, and plugins that can't be started.

use std::num::NonZeroUsize;
use std::time::Duration;

use pointsman_core::failure::FailureClass;
use pointsman_core::port::CallError;
use pointsman_wasm::{COMPONENT_MAX_BYTES, Digest, LoadErrorReason, Plugins, Provision, SandboxSettings};

use crate::guests::{Bench, Guest, PASS, WIT, call, componentize, settings, thread_cpu_time};

#[test]
fn what_is_no_component_is_refused() {
    let component = PASS.component();
    let torn = &component[..component.len() / 2];
    let reason = Bench::new(torn).refusal();
    assert!(matches!(reason, LoadErrorReason::Malformed(_)), "{reason}");
    for file in [&b""[..], b"\0as", b"(component)"] {
        assert!(matches!(Bench::new(file).refusal(), LoadErrorReason::NotWasm));
    }
    let module = wat::parse_str("(module)").unwrap();
    assert!(matches!(Bench::new(&module).refusal(), LoadErrorReason::CoreModule));
}

#[test]
fn every_flipped_byte_is_survived() {
    // Whatever becomes of the file, loading ends, with a plugin or with a reason.
    let component = PASS.component();
    let mut bench = Bench::new(&component);
    bench.spec.limits.deadline = Duration::from_millis(50);
    for at in (0..component.len()).step_by(component.len() / 60) {
        let mut damaged = component.clone();
        damaged[at] ^= 0x15;
        std::fs::write(&bench.spec.component, damaged).unwrap();
        if let Err(error) = bench.load() {
            assert!(error.to_string().starts_with("plugin judge ("), "{error}");
        }
    }
}

#[test]
fn a_missing_or_giant_file_is_refused() {
    let mut bench = Bench::new(b"");
    let giant = std::fs::File::create(&bench.spec.component).unwrap();
    giant.set_len(COMPONENT_MAX_BYTES + 1).unwrap();
    assert!(matches!(bench.refusal(), LoadErrorReason::TooLarge));
    bench.spec.component = "/nowhere/plugin.wasm".into();
    let error = bench.load().err().unwrap().to_string();
    assert!(error.starts_with("plugin judge (/nowhere/plugin.wasm): the file can't be read: No such file"), "{error}");
}

#[test]
fn a_pin_must_hold() {
    let component = PASS.component();
    let mut bench = Bench::new(&component);
    bench.spec.sha256 = Some(Digest::of(&component));
    assert_eq!(bench.load().unwrap().digest(), Digest::of(&component));
    let pinned = Digest::of(b"another");
    bench.spec.sha256 = Some(pinned);
    let text = bench.refusal().to_string();
    assert!(text.contains(&pinned.to_string()) && text.contains(&Digest::of(&component).to_string()), "{text}");
}

/// A component of so many levels, each of which has the one below in it, and then these `items` for its name.
fn nested(levels: usize, items: &dyn Fn(&str) -> String) -> Vec<u8> {
    let text = (1..=levels).fold("(component $c0)".to_owned(), |inner, level| {
        format!("(component $c{level} {inner} {})", items(&format!("$c{}", level - 1)))
    });
    wat::parse_str(text).unwrap()
}

#[test]
fn a_component_that_multiplies_itself_is_refused_before_it_is_compiled() {
    let instance = |name: &str| format!("(instance (instantiate {name}))");
    let twice = nested(6, &|name| instance(name).repeat(8));
    let renamed = nested(6, &|name| format!(r#"(export $e "e" (component {name})) {}"#, instance("$e").repeat(8)));
    let outer = nested(6, &|name| format!("(component $o {}) {}", instance(name).repeat(8), instance("$o")));
    let deep = nested(50, &instance);
    let imported = wat::parse_str(r#"(component (import "c" (component $c)) (instance (instantiate $c)))"#).unwrap();
    let taken = wat::parse_str(
        r#"(component (component $c (component $d) (export "d" (component $d))) (instance $i (instantiate $c))
            (alias export $i "d" (component $d)) (instance (instantiate $d)))"#,
    );
    let cases = [
        ("instances", twice, "more than 100000 definitions"),
        ("instances of an export", renamed, "more than 100000 definitions"),
        ("instances of an outer component", outer, "more than 100000 definitions"),
        ("levels", deep, "more than 10 deep"),
        ("a component that is imported", imported, "not in the file"),
        ("a component out of an instance", taken.unwrap(), "not in the file"),
    ];
    for (name, file, why) in cases {
        let bench = Bench::new(&file);
        let inspected = bench.sandbox.inspect(&bench.spec.component);
        for reason in [bench.refusal(), inspected.unwrap_err()] {
            assert!(matches!(&reason, LoadErrorReason::Nesting(what) if what.contains(why)), "{name}: {reason}");
        }
    }
    let modest = Bench::new(&nested(8, &|name| instance(name).repeat(2))).refusal();
    assert!(matches!(modest, LoadErrorReason::World { .. }), "{modest}");
}

#[test]
fn what_toolchains_do_not_emit_is_refused() {
    let features = [
        ("garbage collection", "(type (struct (field i32)))"),
        ("external references", "(func (param externref))"),
        ("function references", "(type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0)))"),
        ("exceptions", "(tag (param i32))"),
        ("stack switching", "(type $f (func)) (type $k (cont $f))"),
        ("threads", "(memory 1 1 shared)"),
        ("atomic instructions", "(memory 1) (func (drop (i32.atomic.load (i32.const 0))))"),
        ("several memories", "(memory 1) (memory 1)"),
        ("64-bit memories", "(memory i64 1)"),
        ("custom page sizes", "(memory 1 (pagesize 1))"),
        ("wide arithmetic", "(func (param i64) (result i64 i64) (i64.mul_wide_u (local.get 0) (local.get 0)))"),
    ];
    let component = |module: &str| wat::parse_str(format!("(component (core module {module}))")).unwrap();
    for (name, module) in features {
        let reason = Bench::new(&component(module)).refusal();
        assert!(matches!(reason, LoadErrorReason::Malformed(_)), "{name}: {reason}");
    }
    let usual = Bench::new(&component(
        "(func (param v128 funcref)) (func (return_call 0 (v128.const i64x2 0 0) (ref.null func)))",
    ));
    assert!(matches!(usual.refusal(), LoadErrorReason::World { .. }));
    for ty in ["(list u8 4)", "(map string u8)", "(future u8)", "(stream u8)", "error-context"] {
        let reason = Bench::new(&wat::parse_str(format!("(component (type {ty}))")).unwrap()).refusal();
        assert!(matches!(reason, LoadErrorReason::Malformed(_)), "{ty}: {reason}");
    }
}

#[test]
fn another_world_is_refused() {
    let empty = componentize("(module)", &["package other:thing; world plugin {}"], "plugin");
    let reason = Bench::new(&empty).refusal();
    assert!(matches!(&reason, LoadErrorReason::World { found: None }), "{reason}");

    for version in ["0.2.0", "0.1.1", "1.0.0"] {
        let wit = WIT.replace("@0.1.0", &format!("@{version}"));
        let module = format!(
            r#"(module (memory (export "memory") 1)
              (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (unreachable))
              (func (export "pointsman:plugin/processor@{version}#configure") (param i32 i32) (result i32) (unreachable))
              (func (export "pointsman:plugin/processor@{version}#process") (param i32 i32) (result i32) (unreachable)))"#
        );
        let reason = Bench::new(&componentize(&module, &[&wit], "plugin")).refusal();
        assert!(
            matches!(&reason, LoadErrorReason::World { found: Some(found) } if found.ends_with(version)),
            "{reason}"
        );
    }
}

#[test]
fn a_contract_with_other_types_is_refused() {
    // The same names, but one verdict fewer: nothing of it may be called.
    let fewer = WIT.replace("    reject(rejection),\n", "");
    assert_ne!(fewer, WIT);
    let module = r#"(module (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (unreachable))
        (func (export "pointsman:plugin/processor@0.1.0#configure") (param i32 i32) (result i32) (i32.const 0))
        (func (export "pointsman:plugin/processor@0.1.0#process") (param i32 i32) (result i32) (i32.const 0)))"#;
    let reason = Bench::new(&componentize(module, &[&fewer], "plugin")).refusal();
    assert!(matches!(reason, LoadErrorReason::Signature { .. }), "{reason}");

    let other_log = WIT.replace("log: func(level: level, message: string)", "log: func(level: level)");
    assert_ne!(other_log, WIT);
    let module =
        module.replacen("(module ", r#"(module (import "pointsman:plugin/host@0.1.0" "log" (func (param i32)))"#, 1);
    let reason = Bench::new(&componentize(&module, &[&other_log], "plugin")).refusal();
    assert!(matches!(reason, LoadErrorReason::ImportType(_)), "{reason}");
}

#[test]
fn an_import_that_is_never_granted_is_refused_by_name() {
    for import in
        ["evil:net/door@1.0.0", "wasi:keyvalue/door@0.2.0", "wasi:cli/door@0.3.0", "pointsman:plugin/door@0.1.0"]
    {
        let (package, version) = import.split_once('@').unwrap();
        let package = package.strip_suffix("/door").unwrap();
        let imports = format!(r#"(import "{import}" "open" (func))"#);
        let guest = Guest { imports: &imports, ..PASS };
        let component = if package == "pointsman:plugin" {
            let wit = WIT.replace("world plugin {", "interface door { open: func(); }\nworld plugin { import door;");
            let module = format!(
                r#"(module {imports} (memory (export "memory") 1)
                  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (unreachable))
                  (func (export "pointsman:plugin/processor@0.1.0#configure") (param i32 i32) (result i32) (i32.const 0))
                  (func (export "pointsman:plugin/processor@0.1.0#process") (param i32 i32) (result i32) (i32.const 0)))"#
            );
            componentize(&module, &[&wit], "plugin")
        } else {
            guest.component_of(&format!(
                "package test:guest; package {package}@{version} {{ interface door {{ open: func(); }} }}
                 world plugin {{ include pointsman:plugin/plugin@0.1.0; import {import}; }}"
            ))
        };
        let bench = Bench::new(&component);
        let reason = bench.refusal();
        assert!(matches!(&reason, LoadErrorReason::Import(name) if name == import), "{reason}");
        let inspection = bench.sandbox.inspect(&bench.spec.component).unwrap();
        assert!(inspection.imports.contains(&(import.into(), None)), "{inspection:?}");
    }
}

#[test]
fn a_configuration_that_is_refused_stops_the_start() {
    // An error whose text is the configuration itself.
    let refusing = Guest {
        configure: "(i32.store8 (i32.const 2048) (i32.const 1)) (i32.store (i32.const 2052) (local.get $config))
            (i32.store (i32.const 2056) (local.get $length)) (i32.const 2048)",
        ..PASS
    };
    let mut bench = Bench::new(&refusing.component());
    bench.spec.config = r#"{"currency":"EUR"}"#.into();
    let text = bench.refusal().to_string();
    assert_eq!(text, r#"it refuses its configuration: {"currency":"EUR"}; correct its config"#);
}

#[test]
fn code_that_runs_at_the_start_has_the_same_limits() {
    let endless = "(loop $ever (br $ever))";
    let start = format!("(func $start {endless}) (start $start)");
    let configure = format!("{endless} (unreachable)");
    let cases = [
        (Guest { configure: &configure, ..PASS }, "configure", FailureClass::Deadline, "deadline"),
        (Guest { configure: "(unreachable)", ..PASS }, "configure", FailureClass::Trap, "unreachable"),
        (Guest { configure: "(i32.const -4)", ..PASS }, "configure", FailureClass::BadOutput, "malformed"),
        (Guest { items: &start, ..PASS }, "instantiate", FailureClass::Deadline, "deadline"),
        (Guest { items: "(table 5000 funcref)", ..PASS }, "instantiate", FailureClass::Memory, "table-limit"),
    ];
    for (guest, place, class, code) in cases {
        let mut bench = Bench::new(&guest.component());
        bench.spec.limits.deadline = Duration::from_millis(20);
        let (at, fault) = match bench.refusal() {
            LoadErrorReason::Configure(fault) => ("configure", fault),
            LoadErrorReason::Instantiate(fault) => ("instantiate", fault),
            other => panic!("{other}"),
        };
        assert_eq!((at, fault.class, fault.code), (place, class, code), "{guest:?}");
    }
}

#[test]
fn a_start_has_one_deadline() {
    let guest = Guest {
        items: "(func $spin (local $i i32) (local.set $i (i32.const 50000000))
              (loop $more (br_if $more (local.tee $i (i32.sub (local.get $i) (i32.const 1))))))
            (start $spin)",
        configure: "(call $spin) (i32.const 2048)",
        process: "(call $spin) (call $pass (local.get $count))",
        ..PASS
    };
    let mut bench = Bench::new(&guest.component());
    let mut measured = bench.worker();
    call(&mut measured).unwrap();
    let mut time = || {
        let before = thread_cpu_time();
        call(&mut measured).unwrap();
        thread_cpu_time() - before
    };
    // The start and `configure` are each within the deadline, and both together are not. What is tried while the machine
    // changes its pace says nothing, and of the others most say the truth.
    let tried = std::iter::repeat_with(|| {
        let before = time();
        bench.spec.limits.deadline = before * 3 / 2;
        let loaded = bench.load();
        (time().abs_diff(before) < before / 10).then_some(loaded)
    });
    let tried: Vec<_> = tried.take(1000).flatten().take(7).collect();
    assert_eq!(tried.len(), 7, "the machine keeps its pace for moments");
    let ended_in_configure = tried.into_iter().filter_map(Result::err).filter(
        |error| matches!(&error.reason, LoadErrorReason::Configure(fault) if fault.class == FailureClass::Deadline),
    );
    assert!(ended_in_configure.count() >= 4, "it must end in configure, by the deadline");
}

#[test]
fn a_memory_that_is_too_large_from_the_start_is_refused() {
    let mut bench = Bench::new(&PASS.component());
    bench.spec.limits.memory_bytes = 1 << 16;
    let LoadErrorReason::Instantiate(fault) = bench.refusal() else { panic!("it must not be instantiated") };
    assert_eq!((fault.class, fault.code), (FailureClass::Memory, "memory-limit"));
}

#[test]
fn limits_beyond_the_sandbox_and_unknown_grants_are_refused() {
    let mut bench = Bench::new(&PASS.component());
    bench.spec.limits.memory_bytes = 65 << 20;
    assert!(matches!(bench.refusal(), LoadErrorReason::Limit { limit: "memory", .. }));
    bench.spec.limits = crate::guests::limits();
    bench.spec.grants = vec!["network".into()];
    assert!(matches!(bench.refusal(), LoadErrorReason::Grant(grant) if grant == "network"));
    bench.spec.grants = vec!["env:POINTSMAN_TEST_IS_NOT_SET".into()];
    assert!(matches!(bench.refusal(), LoadErrorReason::Environment(_)));
}

#[test]
fn a_plugin_is_described_without_being_run() {
    let component = Guest { configure: "(unreachable)", ..PASS }.component();
    let bench = Bench::new(&component);
    let inspection = bench.sandbox.inspect(&bench.spec.component).unwrap();
    assert_eq!(inspection.digest, Digest::of(&component));
    assert_eq!(inspection.bytes, component.len());
    assert_eq!(inspection.exports.as_deref(), Some("pointsman:plugin/processor@0.1.0"));
    assert!(inspection.callable);
    assert!(inspection.imports.iter().all(|(_, provision)| *provision == Some(Provision::Host)), "{inspection:?}");
}

#[test]
fn an_examination_tells_what_loading_would_without_an_instance() {
    let traps = Guest { configure: "(unreachable)", ..PASS }.component();
    let mut bench = Bench::new(&traps);
    let examined = bench.sandbox.examine(&bench.spec).unwrap();
    assert_eq!(examined, bench.sandbox.inspect(&bench.spec.component).unwrap());
    assert!(matches!(bench.refusal(), LoadErrorReason::Configure(_)), "only running it tells");

    bench.spec.limits.memory_bytes = 1 << 16;
    let short = bench.sandbox.examine(&bench.spec).unwrap_err();
    assert!(matches!(short.reason, LoadErrorReason::Memory { has, .. } if has == examined.memory_bytes), "{short}");

    bench.spec.sha256 = Some(Digest([7; 32]));
    let pin = bench.sandbox.examine(&bench.spec).unwrap_err().to_string();
    assert!(pin.contains(&"07".repeat(32)) && pin.contains(&examined.digest.to_string()), "shows both: {pin}");
}

#[test]
fn plugins_are_called_by_their_index() {
    let bench = Bench::new(&PASS.component());
    let plugins = pointsman_wasm::Plugins::new(vec![bench.load().unwrap(), bench.load().unwrap()]);
    assert_eq!(plugins.get(pointsman_core::port::PluginId(1)).unwrap().name(), "judge");
    assert!(plugins.get(pointsman_core::port::PluginId(2)).is_none());
    assert_eq!(call(&mut plugins.worker()).unwrap().len(), 3);
}

#[test]
fn a_pool_that_is_too_large_for_4_gib_each_takes_less() {
    let many = SandboxSettings { workers: NonZeroUsize::new(64).unwrap(), plugins: 40, ..settings() };
    let bench = Bench::with(&PASS.component(), &many);
    assert_eq!(call(&mut bench.worker()).unwrap().len(), 3);
}

#[test]
fn a_pool_without_room_is_not_the_plugins_fault() {
    let one = SandboxSettings { workers: NonZeroUsize::MIN, plugins: 1, ..settings() };
    let bench = Bench::with(&PASS.component(), &one);
    let plugins = Plugins::new(vec![bench.load().unwrap()]);
    let mut workers: Vec<_> = (0..3).map(|_| plugins.worker()).collect();
    let answers: Vec<_> = workers.iter_mut().map(call).collect();
    assert!(answers[0].is_ok() && answers[1].is_ok());
    let Err(CallError::Unavailable { message }) = &answers[2] else { panic!("{answers:?}") };
    assert!(message.starts_with("there is no room for an instance of plugin judge"), "{message}");
    assert!(matches!(bench.refusal(), LoadErrorReason::NoRoom(_)));
    drop(workers);
    assert!(bench.load().is_ok());
}
