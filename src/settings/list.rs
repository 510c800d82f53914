//! Every setting, as the manual shows it; a test compares the two.

/// One setting, as the manual shows it.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in the environment and in `.env`.
    pub name: &'static str,
    /// The flag that wins over it, where there is one.
    pub flag: &'static str,
    /// What holds where it is not set.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

const fn setting(
    name: &'static str,
    flag: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Setting {
    Setting { name, flag, default, meaning }
}

/// Every setting.
pub const ALL: [Setting; 32] = [
    setting(
        "DATABASE_URL",
        "--database-url",
        "a private PostgreSQL",
        "The PostgreSQL to use, version 14 or later, encoding UTF-8, connected to directly (not through a pooler in transaction mode). It may name several hosts of a replicated one, `postgres://user@a:5432,b:5432/mathesis`; the one that takes writes is found ([scaling.md](scaling.md)).",
    ),
    setting(
        "DATABASE_READ_URL",
        "",
        "the same database",
        "A read replica for the dashboards, or several hosts; it may lag behind.",
    ),
    setting(
        "MATHESIS_HOME",
        "--home",
        "`.mathesis`; `/var/lib/mathesis` for root",
        "Where the private PostgreSQL keeps its data. Not used with `DATABASE_URL`.",
    ),
    setting(
        "MATHESIS_PG_BINDIR",
        "",
        "found on the machine",
        "The folder with `initdb` and `postgres` for the private PostgreSQL.",
    ),
    setting(
        "MATHESIS_WORKFLOWS",
        "--workflows",
        "`workflows`",
        "The folder that holds one folder a workflow.",
    ),
    setting(
        "PORT",
        "--port",
        "8080",
        "The port to listen on; 0 takes a free one. When it comes from the environment and no address is named, a server that has a key listens on every address, as hosting platforms expect.",
    ),
    setting(
        "MATHESIS_HOST",
        "--bind",
        "127.0.0.1",
        "The address to listen on. Anything but loopback needs a key.",
    ),
    setting(
        "MATHESIS_BOOTSTRAP_KEY",
        "",
        "none",
        "The first key, with the role `operate`; stored hashed at the start, once. At least 16 characters.",
    ),
    setting(
        "ANTHROPIC_API_KEY",
        "",
        "none",
        "The key for Claude. Without it everything works but learning, which waits.",
    ),
    setting(
        "ANTHROPIC_BASE_URL",
        "",
        "`https://api.anthropic.com`",
        "Where Claude is, without the path.",
    ),
    setting("CLICKUP_API_TOKEN", "", "none", "ClickUp's token, for `mathesis orchestrate`."),
    setting(
        "CLICKUP_BASE_URL",
        "",
        "`https://api.clickup.com`",
        "Where ClickUp is, without the path.",
    ),
    setting(
        "CLICKUP_WEBHOOK_SECRET",
        "",
        "none",
        "What ClickUp signs its deliveries with, for `mathesis orchestrate`; `mathesis orchestrate register` prints it.",
    ),
    setting("WAVESPEED_API_KEY", "", "none", "The key for WaveSpeed, for `mathesis orchestrate`."),
    setting(
        "WAVESPEED_BASE_URL",
        "",
        "`https://api.wavespeed.ai`",
        "Where WaveSpeed is, without the path.",
    ),
    setting(
        "MATHESIS_PICTURES_ALLOW_PRIVATE",
        "",
        "false",
        "`true` lets `mathesis orchestrate` read pictures from private addresses that ClickUp and WaveSpeed name, and use the environment's proxies for them ([security.md](security.md)).",
    ),
    setting(
        "MATHESIS_LOG",
        "",
        "`info`",
        "Which log lines are written, such as `mathesis=debug,info`. Commands other than `serve` begin at `warn`.",
    ),
    setting(
        "MATHESIS_LOG_FORMAT",
        "",
        "`text`",
        "`text` for people, `json` for programs. Logs go to standard error.",
    ),
    setting(
        "MATHESIS_SHUTDOWN_GRACE_SECONDS",
        "",
        "20",
        "How long running work may go on after a stop is asked for, 0 to 3600; the rest is handed back and done by the next process.",
    ),
    setting(
        "MATHESIS_CONNECTIONS_MAX",
        "",
        "16",
        "The most connections to the database, 4 to 200; about 16 are best.",
    ),
    setting(
        "MATHESIS_PIPELINE_CALLS_PER_SECOND",
        "",
        "50000",
        "How many events, assignments and look-ups a second one key may send, and one address; the rest is told `too_many_calls` ([security.md](security.md)).",
    ),
    setting(
        "MATHESIS_CALLS_PER_SECOND",
        "",
        "200",
        "The same for every other call that needs a key.",
    ),
    setting(
        "MATHESIS_FAILED_KEYS_PER_MINUTE",
        "",
        "10",
        "How many keys that do not fit, and sign-ins, a minute one address may send.",
    ),
    setting(
        "MATHESIS_BEHIND_PROXY",
        "",
        "false",
        "`true` where one proxy of your own stands in front: the caller's address is then the last of `X-Forwarded-For`.",
    ),
    setting(
        "MATHESIS_HTTP_CONNECTIONS_MAX",
        "",
        "4096",
        "The most connections at a time, 1 to 100000; further ones wait until one ends.",
    ),
    setting(
        "MATHESIS_HTTP_CONNECTIONS_PER_ADDRESS",
        "",
        "512",
        "The most connections at a time of one address, 1 to 100000; further ones are told `too_many_connections`. Not counted: this machine's own, and all of them with `MATHESIS_BEHIND_PROXY`.",
    ),
    setting(
        "MATHESIS_URL",
        "--url",
        "`http://127.0.0.1:8080`",
        "For a pipeline and for `files pull`: where the service is.",
    ),
    setting(
        "MATHESIS_KEY",
        "",
        "none",
        "For a pipeline and for `files pull`: its key; `--key-env` names another variable.",
    ),
    setting(
        "MATHESIS_WORKFLOW",
        "--workflow",
        "`image-editing`",
        "For a pipeline and for `files pull`: which workflow it is about.",
    ),
    setting(
        "MATHESIS_SPOOL",
        "",
        "not looked at",
        "Where a pipeline on this machine keeps events for the service; `doctor` looks there.",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        "none: no traces",
        "The collector that traces are sent to, over HTTP, such as `http://127.0.0.1:4318`. OpenTelemetry's other variables (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_…`, `OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES`) are read from the environment, too.",
    ),
    setting("NO_COLOR", "", "not set", "Set to anything, it switches colours off."),
];
