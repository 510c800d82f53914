//! What a person reads whose definition is wrong: the table of mistakes, and the words for each.

use std::fs;
use std::path::Path;

use crate::workflow::load::load;
use crate::workflow::tests::{SMALLEST, folder_with, with};

fn errors_in(folder: &Path) -> String {
    let error = load(folder).expect_err("the folder should be refused").to_string();
    error.replace(&format!("{}/", folder.display()), "")
}

fn errors_of(toml: &str) -> String {
    errors_in(&folder_with(toml).1)
}

fn errors_with_prompt(file: &str, text: &[u8]) -> String {
    let (_root, folder) = folder_with(SMALLEST);
    fs::write(folder.join("prompts").join(file), text).unwrap();
    errors_in(&folder)
}

#[test]
fn what_is_wrong_is_told_in_words() {
    let model = |lines: &str| format!("name = \"wf\"\n{lines}");
    let cases: Vec<(&str, String)> = vec![
        ("an empty file", String::new()),
        ("no TOML", "name = \"wf\nmodels = [".to_owned()),
        ("a key twice", with("[split]\nblock = 4\nblock = 6\n")),
        ("a name that is a path", SMALLEST.replace("\"wf\"", "\"../wf\"")),
        ("another name than the folder's", SMALLEST.replace("\"wf\"", "\"image-editing\"")),
        ("no models", model("models = []")),
        ("models as a text", model("models = \"nano-banana\"")),
        ("models as a list of texts", model("models = [\"nano-banana\"]")),
        ("a model without a name", model("[[models]]\n")),
        (
            "a model with more than a name",
            model("[[models]]\nname = \"a\"\nnmae = \"b\"\nfolder = \"c\""),
        ),
        ("a model called like all of them", model("[[models]]\nname = \"All\"")),
        (
            "a model twice, but for its case",
            model("[[models]]\nname = \"Wan\"\n[[models]]\nname = \"wan\""),
        ),
        ("a model whose name is none", model("[[models]]\nname = \"nano banana\"")),
        ("[model] for [[models]]", model("[model]\nname = \"a\"")),
        ("a misspelt key", with("[gate]\nimprovment_basis_points = 1000\n")),
        ("a misspelt section", with("[trigers]\ntasks = 50\n")),
        ("a key under the wrong heading", with("[trigger]\nper_arm = 10\nscore_max = 5\n")),
        ("a key that resembles nothing", with("[approval]\nzzz = 1\n")),
        (
            "a section as a number",
            with("[other]\n").replace("[[models]]", "split = 10\n[[models]]"),
        ),
        (
            "numbers out of range",
            with(
                "[trigger]\ntasks = 0\n[split]\nper_arm = -1\n[gate]\nimprovement_basis_points = 100001\n",
            ),
        ),
        ("numbers that are none", with("[timeouts]\ntest_days = \"14\"\nlease_seconds = 1.5\n")),
        ("a switch that is a text", with("[gate]\nskip_at_ceiling = \"yes\"\n")),
        ("a time zone misspelt", SMALLEST.replace("[[", "timezone = \"Europe/Athen\"\n[[")),
        (
            "cron that cannot be read, and cron that never comes",
            with("[trigger]\nsweep = \"hourly\"\n[retention]\ncleanup = \"0 3 30 2 *\"\n"),
        ),
        ("a probation of an odd number", with("[guard]\nprobation_tasks = 15\n")),
        ("a guard that is none", with("[guard]\nmode = \"dog\"\n")),
        ("an alarm that nobody knows", with("[watch]\non_alarm = \"panic\"\n")),
        ("an approval that is none", with("[approval]\nask = \"always\"\n")),
        ("a budget as a float", with("[claude]\nbudget_usd_per_month = 15.0\n")),
        (
            "a budget of nothing, and an answer too long to wait for",
            with(
                "[claude]\nbudget_usd_per_month = \"0\"\ngeneration_max_tokens = 64000\nanalysis_model = \"\"\n",
            ),
        ),
        ("a config folder outside", SMALLEST.replace("[[", "config_folder = \"../secrets\"\n[[")),
        ("a config folder with NUL", SMALLEST.replace("[[", "config_folder = \"a\\u0000b\"\n[[")),
        (
            "placeholders with braces, and twice",
            with(
                "[documents]\nrequired_placeholders = [\"{{original_prompt}}\"]\nfrozen_sections = [\"A\", \"A\"]\n",
            ),
        ),
        (
            "a placeholder that the template lacks",
            with("[documents]\nrequired_placeholders = [\"brand_rules\"]\n"),
        ),
        (
            "keys that contradict each other",
            with(
                "[split]\nper_arm = 3\nblock = 7\n[retry]\nfirst_delay_seconds = 90\ndelay_max_seconds = 60\n[timeouts]\ntest_days = 1\nslot_score_hours = 48\nrun_silent_hours = 200\n[retention]\ndays = 2\n",
            ),
        ),
        ("a pass score above the best one", SMALLEST.replace("[[", "score_max = 5\n[[")),
        (
            "one mistake in each corner",
            "nam = \"wf\"\nscore_max = 0\n[[models]]\nname = \"..\"\n[gaet]\n[split]\nblok = 4\n"
                .to_owned(),
        ),
    ];
    let told: String =
        cases.iter().map(|(title, toml)| format!("## {title}\n{}\n\n", errors_of(toml))).collect();
    insta::assert_snapshot!(told);
}

#[test]
fn what_is_wrong_with_a_prompt_is_told_with_its_line() {
    let cases: [(&str, &str, &[u8]); 11] = [
        (
            "an unknown variable",
            "analysis.user.md",
            b"Tasks:\n{{ taks | length }}",
        ),
        (
            "an unknown field",
            "analysis.user.md",
            b"{{ window.tasks_totl }} of {{ window.tasks_total }}",
        ),
        (
            "an unknown field of a task",
            "analysis.user.md",
            b"{% for task in tasks %}\n{{ task.orignal_prompt | data }}\n{% endfor %}",
        ),
        (
            "an unknown field in a branch for nothing",
            "analysis.user.md",
            b"{% for task in tasks %}{% if task.winner_model is none %}\n{{ task.winer }}{% endif %}{% endfor %}",
        ),
        (
            "an unknown variable where nothing is rendered",
            "generation.system.md",
            b"{% if false %}{{ modell }}{% endif %}",
        ),
        ("a syntax error", "analysis.system.md", b"one\ntwo {% if %}"),
        ("an unknown filter", "generation.user.md", b"{{ research | fence }}"),
        ("a bad label", "generation.user.md", b"{{ research | fenced('<x>') }}"),
        (
            "outside text put in bare",
            "analysis.user.md",
            b"{% for task in tasks %}\n{{ task.original_prompt }} {{ task.task_id | upper }}\n{% endfor %}",
        ),
        ("an empty prompt", "generation.system.md", b" \n"),
        ("no UTF-8", "analysis.user.md", b"abc\xff"),
    ];
    let mut told: String = cases
        .iter()
        .map(|(title, file, text)| format!("## {title}\n{}\n\n", errors_with_prompt(file, text)))
        .collect();
    let strange = "{{original_prompt}}\n{{ research }} {{customer}}";
    told.push_str(&format!(
        "## a strange placeholder\n{}\n\n",
        errors_with_prompt("enhancement.md", strange.as_bytes())
    ));
    let (_root, folder) = folder_with(SMALLEST);
    fs::remove_file(folder.join("prompts/generation.user.md")).unwrap();
    fs::remove_file(folder.join("workflow.toml")).unwrap();
    told.push_str(&format!("## files that are missing\n{}\n", errors_in(&folder)));
    insta::assert_snapshot!(told);
}
