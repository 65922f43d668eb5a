#!/usr/bin/env python3
"""Makes dashboard.json, the Grafana dashboard: `python3 dashboard.py > dashboard.json`. A test compares the two.

Each row has its panels, and each panel its expressions with their legends. Metrics are those of ../METRICS.md. In expressions
LANE stands for what picks the lanes that the reader has chosen, ROUTE for what picks their routes, and ALL for their job.
"""

import json
import sys

ALL = 'job=~"$job"'
ROUTE = ALL + ',route=~"$route"'
LANE = ROUTE + ',topic=~"$topic"'
RATE = "[$__rate_interval]"

LANE_LEGEND = "{{route}} {{topic}}/{{partition}}"
WIDTH, HEIGHT = 24, 8


def picked(expression):
    """The expression with its abbreviations written out."""
    for name, text in (("ROUTE", ROUTE), ("LANE", LANE), ("ALL", ALL), ("RATE", RATE)):
        expression = expression.replace(name, text)
    return expression


def panel(kind, title, unit, queries, width, description="", **options):
    """A panel; its place and its number are given to it later."""
    heatmap = kind == "heatmap"
    targets = [
        {
            "refId": chr(ord("A") + index),
            "expr": picked(expression),
            "legendFormat": legend,
            "format": "heatmap" if heatmap else "time_series",
            "instant": kind in ("stat", "table"),
            "range": kind not in ("stat", "table"),
        }
        for index, (expression, legend) in enumerate(queries)
    ]
    made = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "targets": targets,
        "gridPos": {"w": width, "h": options.pop("height", HEIGHT)},
        "fieldConfig": {"defaults": {"unit": unit, "min": options.pop("min", 0), **options}, "overrides": []},
        "options": {},
    }
    if made["fieldConfig"]["defaults"]["min"] is None:
        del made["fieldConfig"]["defaults"]["min"]
    if heatmap:
        made["options"] = {"calculate": False, "cellGap": 1, "yAxis": {"unit": unit}, "color": {"scheme": "Blues", "mode": "scheme"}}
        made["fieldConfig"]["defaults"] = {}
    elif kind == "stat":
        made["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}
    elif kind == "timeseries":
        made["options"] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
        made["fieldConfig"]["defaults"]["custom"] = {"fillOpacity": 10, "showPoints": "never"}
    return made


def stat(title, unit, expression, red=None, description=""):
    steps = [{"color": "green", "value": None}] + ([{"color": "red", "value": red}] if red is not None else [])
    return panel("stat", title, unit, [(expression, "")], 4, description, height=4, thresholds={"mode": "absolute", "steps": steps})


def graph(title, unit, *queries, width=8, description="", **options):
    return panel("timeseries", title, unit, queries, width, description, **options)


def heatmap(title, unit, expression, description=""):
    return panel("heatmap", title, unit, [(expression, "{{le}}")], 12, description)


# A lane that somebody has paused is not meant here, and neither is one that waits for nothing.
UNREADY = """count(
  max by (route, topic, partition) (pointsman_lane_state{LANE,state=~"halted|paused-by-breaker|silent"}) == 1
  or max by (route, topic, partition) (pointsman_lag_status{LANE,status=~"stalled|stopped"}) == 1
  unless max by (route, topic, partition) (pointsman_lane_state{LANE,state="paused-by-hand"}) == 1
) or vector(0)"""

ROWS = [
    ("Overview", [
        stat("Furthest behind", "s", "max(pointsman_lag_seconds{LANE})", 600, "Age of the oldest record that has no fate yet."),
        stat("Records behind", "short", "sum(max by (route, topic, partition) (pointsman_lag_records{LANE}))"),
        stat("Lanes that need a look", "short", UNREADY, 1, "Halted, paused by the breaker, silent, or with records and no progress."),
        stat("Dead letters in an hour", "short", 'sum(increase(pointsman_records_total{ROUTE,fate="dead-lettered"}[1h]))', 1000),
        stat("Nearest loss to retention", "s", "min(pointsman_retention_headroom_seconds{LANE})",
             description="How long it takes until retention may remove a record that has no fate yet. Empty where none is behind."),
        stat("Routers", "short", 'count(up{ALL} == 1)'),
        graph("Furthest behind, by route", "s", ("max by (route) (pointsman_lag_seconds{LANE})", "{{route}}")),
        graph("Records a second, by fate", "ops", ("sum by (fate) (rate(pointsman_records_total{ROUTE}RATE))", "{{fate}}")),
        graph("Lanes, by state", "short", ("sum by (state) (pointsman_lane_state{LANE})", "{{state}}")),
    ]),
    ("Lag", [
        graph("Behind, in time", "s", ("max by (route, topic, partition) (pointsman_lag_seconds{LANE})", LANE_LEGEND), width=12),
        graph("Behind, in records", "short", ("max by (route, topic, partition) (pointsman_lag_records{LANE})", LANE_LEGEND), width=12),
        graph("Lanes, by status", "short", ("sum by (status) (pointsman_lag_status{LANE})", "{{status}}")),
        graph("Until nothing is left to do", "s", ("max by (route, topic, partition) (pointsman_lag_drain_seconds{LANE})", LANE_LEGEND),
              description="If all goes on as over the last minutes; a gap where it never would."),
        graph("Until retention comes", "s", ("min by (route, topic, partition) (pointsman_retention_headroom_seconds{LANE})", LANE_LEGEND)),
        graph("Written and handled a second", "ops",
              ("sum by (topic) (rate(pointsman_end_offset{LANE}RATE))", "{{topic}} written"),
              ("sum by (topic) (rate(pointsman_watermark_offset{LANE}RATE))", "{{topic}} handled"),
              description="By offsets, which markers of transactions count to."),
        graph("Fetched a second", "Bps", ("sum by (route, topic) (rate(pointsman_fetched_bytes_total{LANE}RATE))", "{{route}} {{topic}}")),
        graph("In flight", "bytes", ("max by (route, topic, partition) (pointsman_in_flight_bytes{LANE})", LANE_LEGEND),
              ("max by (route) (pointsman_in_flight_limit_bytes{ROUTE})", "{{route}} limit of a lane")),
    ]),
    ("Fates and failures", [
        graph("Records fetched a second", "ops", ("sum by (route, topic) (rate(pointsman_fetched_records_total{LANE}RATE))", "{{route}} {{topic}}")),
        graph("Records produced a second", "ops", ("sum by (topic) (rate(pointsman_produced_records_total{ALL}RATE))", "{{topic}}")),
        graph("Produced a second", "Bps", ("sum by (topic) (rate(pointsman_produced_bytes_total{ALL}RATE))", "{{topic}}")),
        graph("Failures a second, by class", "ops", ("sum by (route, class) (rate(pointsman_failures_total{ROUTE}RATE))", "{{route}} {{class}}")),
        graph("Failures a second, the ten most frequent codes", "ops",
              ("topk(10, sum by (route, class, code) (rate(pointsman_failures_total{ROUTE}RATE)))", "{{route}} {{class}} {{code}}")),
        graph("What becomes of failures", "ops", ("sum by (fate) (rate(pointsman_failures_total{ROUTE}RATE))", "{{fate}}")),
        graph("Deliveries that failed a second", "ops", ("sum by (route, error) (rate(pointsman_delivery_errors_total{ROUTE}RATE))", "{{route}} {{error}}")),
        graph("Dead letters kept", "short", ("max by (topic) (pointsman_dead_letters_kept_records{ALL})", "{{topic}}"),
              description="Handled or not."),
        graph("Until the oldest dead letters expire", "s",
              ("max by (topic) (pointsman_dead_letters_retention_seconds{ALL}) - max by (topic) (pointsman_dead_letters_oldest_seconds{ALL})", "{{topic}}"),
              min=None),
    ]),
    ("Latency", [
        heatmap("From fetch to fate", "s", "sum by (le) (rate(pointsman_handling_seconds_bucket{ROUTE}RATE))"),
        heatmap("From the record's timestamp to its fate", "s", "sum by (le) (rate(pointsman_event_age_seconds_bucket{ROUTE}RATE))"),
        graph("99 % from fetch to fate within", "s",
              ("histogram_quantile(0.99, sum by (le, route) (rate(pointsman_handling_seconds_bucket{ROUTE}RATE)))", "{{route}}"), width=12),
        graph("Half, and 99 %, from timestamp to fate within", "s",
              ("histogram_quantile(0.5, sum by (le, route) (rate(pointsman_event_age_seconds_bucket{ROUTE}RATE)))", "{{route}} half"),
              ("histogram_quantile(0.99, sum by (le, route) (rate(pointsman_event_age_seconds_bucket{ROUTE}RATE)))", "{{route}} 99 %"), width=12),
    ]),
    ("Plugins", [
        graph("CPUs, by route", "short", ("sum by (route, plugin) (rate(pointsman_plugin_cpu_seconds_total{ROUTE}RATE))", "{{route}} {{plugin}}")),
        graph("CPU for each event", "s",
              ("sum by (route, plugin) (rate(pointsman_plugin_cpu_seconds_total{ROUTE}RATE)) / sum by (route, plugin) (rate(pointsman_plugin_call_events_sum{ROUTE}RATE))",
               "{{route}} {{plugin}}")),
        graph("Events in each call", "short",
              ("sum by (route, plugin) (rate(pointsman_plugin_call_events_sum{ROUTE}RATE)) / sum by (route, plugin) (rate(pointsman_plugin_call_events_count{ROUTE}RATE))",
               "{{route}} {{plugin}}")),
        graph("Part of the deadline that 99 % of the calls need", "percentunit",
              ("histogram_quantile(0.99, sum by (le, route, plugin) (rate(pointsman_plugin_deadline_used_ratio_bucket{ROUTE}RATE)))", "{{route}} {{plugin}}"), max=1),
        graph("Slow calls for one event, in an hour", "short", ("sum by (plugin) (increase(pointsman_plugin_slow_calls_total{ALL}[1h]))", "{{plugin}}"),
              description="More than half of the deadline."),
        graph("Calls that gave no verdicts, a second", "ops",
              ("sum by (route, plugin, class) (rate(pointsman_plugin_call_failures_total{ROUTE}RATE))", "{{route}} {{plugin}} {{class}}"),
              description="Traps and the like. One guilty record makes several."),
        graph("Memory of all instances", "bytes", ("sum by (plugin) (pointsman_plugin_memory_bytes{ALL})", "{{plugin}}")),
        graph("Memory of an instance, of what it may have", "percentunit",
              ("max by (plugin) (pointsman_plugin_memory_bytes{ALL} / pointsman_plugin_instances{ALL} / pointsman_plugin_memory_limit_bytes{ALL})", "{{plugin}}"), max=1,
              description="The mean of the instances of the router that has the greatest."),
        graph("Bytes across the border a second", "Bps",
              ("sum by (route, plugin, direction) (rate(pointsman_plugin_border_bytes_total{ROUTE}RATE))", "{{route}} {{plugin}} {{direction}}")),
        graph("Instances", "short", ("sum by (plugin) (pointsman_plugin_instances{ALL})", "{{plugin}}")),
        graph("Instances made in an hour", "short", ("sum by (plugin) (increase(pointsman_plugin_instances_made_total{ALL}[1h]))", "{{plugin}}")),
        graph("What plugins count, a second", "ops", ("sum by (plugin, counter) (rate(pointsman_plugin_counter_total{ALL}RATE))", "{{plugin}} {{counter}}")),
    ]),
    ("Retries and breakers", [
        graph("Parked records", "short", ("sum by (route, topic) (pointsman_parked_records{LANE})", "{{route}} {{topic}}")),
        graph("First retry overdue", "s", ("max by (route, topic, partition) (pointsman_parked_overdue_seconds{LANE}) > 0", LANE_LEGEND)),
        graph("Parked a second", "ops", ('sum by (route) (rate(pointsman_records_total{ROUTE,fate="parked"}RATE))', "{{route}}")),
        graph("Breakers open", "short", ("sum by (route, topic) (pointsman_breaker_open{LANE})", "{{route}} {{topic}}"), width=12),
        graph("Fewest tokens of a lane", "short", ("min by (route, topic) (pointsman_breaker_tokens{LANE})", "{{route}} {{topic}}"), width=12),
    ]),
    ("Groups and transactions", [
        graph("Partitions, by router", "short", ("sum by (group, instance) (pointsman_group_partitions{ALL})", "{{group}} {{instance}}")),
        graph("Rebalances in an hour", "short", ("sum by (group, kind) (increase(pointsman_group_rebalances_total{ALL}[1h]))", "{{group}} {{kind}}")),
        graph("Commits that failed in an hour", "short", ("sum by (group) (increase(pointsman_group_commit_failures_total{ALL}[1h]))", "{{group}}")),
        graph("99 % of partitions given up within", "s",
              ("histogram_quantile(0.99, sum by (le, group) (rate(pointsman_group_revocation_seconds_bucket{ALL}[1h])))", "{{group}}")),
        graph("Transactions a second", "ops", ("sum by (outcome) (rate(pointsman_transactions_total{ALL}RATE))", "{{outcome}}")),
        graph("Transactions committed within", "s",
              ("histogram_quantile(0.5, sum by (le) (rate(pointsman_transaction_commit_seconds_bucket{ALL}RATE)))", "half"),
              ("histogram_quantile(0.99, sum by (le) (rate(pointsman_transaction_commit_seconds_bucket{ALL}RATE)))", "99 %")),
    ]),
    ("Connections and traces", [
        graph("Clients that are connected to a broker", "short",
              ("sum by (broker, role) (pointsman_kafka_connections{ALL})", "{{broker}} {{role}}")),
        graph("99 % of a broker's answers within", "s",
              ("max by (broker, role) (pointsman_kafka_rtt_seconds{ALL})", "{{broker}} {{role}}")),
        graph("Held back by quotas", "s",
              ("max by (broker, role) (pointsman_kafka_throttled_seconds{ALL})", "{{broker}} {{role}}")),
        graph("What went wrong with requests, in an hour", "short",
              ("sum by (broker) (increase(pointsman_kafka_request_timeouts_total{ALL}[1h]))", "{{broker}} no answer"),
              ("sum by (broker) (increase(pointsman_kafka_request_errors_total{ALL}[1h]))", "{{broker}} errors"),
              ("sum by (broker) (increase(pointsman_kafka_request_retries_total{ALL}[1h]))", "{{broker}} made again"),
              ("sum by (broker) (increase(pointsman_kafka_disconnects_total{ALL}[1h]))", "{{broker}} disconnected")),
        graph("Requests that wait", "short",
              ("sum by (broker, role) (pointsman_kafka_waiting_requests{ALL})", "{{broker}} {{role}}")),
        graph("Spans a second, and records passed over", "short",
              ("sum by (outcome) (rate(pointsman_trace_spans_total{ALL}RATE))", "spans {{outcome}}"),
              ("sum(rate(pointsman_traces_passed_over_records_total{ALL}RATE))", "records passed over")),
    ]),
    ("The process", [
        graph("CPUs", "short", ("rate(process_cpu_seconds_total{ALL}RATE)", "{{instance}}"), width=6),
        graph("Memory", "bytes", ("process_resident_memory_bytes{ALL}", "{{instance}}"), width=6),
        graph("Files and connections", "short", ("process_open_fds{ALL}", "{{instance}}"), width=6),
        graph("Running for", "s", ("time() - process_start_time_seconds{ALL}", "{{instance}}"), width=6),
        graph("Producer queues", "percentunit",
              ("pointsman_producer_queue_bytes{ALL} / pointsman_producer_queue_limit_bytes{ALL}", "{{instance}} worker {{worker}}"), width=6, max=1),
        graph("Lanes, by worker", "short", ("pointsman_worker_lanes{ALL}", "{{instance}} worker {{worker}}"), width=6),
        graph("Silent workers", "short", ("pointsman_silent_workers{ALL}", "{{instance}}"), width=6),
        graph("Age of the last survey", "s", ("pointsman_survey_age_seconds{ALL}", "{{instance}}"), width=6,
              description="What is said of lag is as old."),
        graph("Versions", "short", ("count by (version) (pointsman_build_info{ALL})", "{{version}}"), width=24, height=5),
    ]),
]


def placed():
    """All panels, each with its place and a number that no other has."""
    y = 0
    for title, panels in ROWS:
        yield {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}}
        x, y, tallest = 0, y + 1, 0
        for made in panels:
            place = made["gridPos"]
            if x + place["w"] > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            place.update(x=x, y=y)
            x, tallest = x + place["w"], max(tallest, place["h"])
            yield made
        y += tallest


def choice(name, label, query):
    return {
        "type": "query", "name": name, "label": label, "query": {"query": query, "refId": name}, "definition": query,
        "datasource": {"type": "prometheus", "uid": "${datasource}"}, "refresh": 2, "sort": 1,
        "multi": True, "includeAll": True, "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard():
    panels = [{"id": number, **made} for number, made in enumerate(placed(), 1)]
    variables = [
        {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "current": {}},
        choice("job", "Job", "label_values(pointsman_build_info, job)"),
        choice("route", "Route", 'label_values(pointsman_lane_state{job=~"$job"}, route)'),
        choice("topic", "Topic", 'label_values(pointsman_lane_state{job=~"$job",route=~"$route"}, topic)'),
    ]
    return {
        "uid": "pointsman", "title": "Pointsman", "tags": ["pointsman", "kafka"], "schemaVersion": 39, "version": 1, "editable": True,
        "description": "Routes, lanes, plugins and processes of Pointsman.", "timezone": "browser", "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"}, "graphTooltip": 1, "templating": {"list": variables}, "panels": panels,
        "annotations": {"list": [{
            "name": "Restarts", "datasource": {"type": "prometheus", "uid": "${datasource}"}, "enable": True, "iconColor": "orange",
            "expr": "changes(" + picked("process_start_time_seconds{ALL}") + "[2m]) > 0", "titleFormat": "{{instance}} was started",
        }]},
    }


if __name__ == "__main__":
    json.dump(dashboard(), sys.stdout, indent=1)
    sys.stdout.write("\n")
