//! The sentences in Greek. Numbers have a decimal comma, days their Greek form.

use chrono::{DateTime, Utc};

use super::Tried;
use super::sentences::{Words, percent};
use crate::cycle::StateName;

pub(super) const WORDS: Words = Words {
    title: |workflow, cycle| format!("{workflow}: αναφορά του κύκλου μάθησης {cycle}"),
    span: |from, to, zone| {
        let day = |at: DateTime<Utc>| at.with_timezone(&zone).format("%-d/%-m/%Y").to_string();
        match to {
            Some(to) => format!("{} έως {}", day(from), day(to)),
            None => format!("Από {}", day(from)),
        }
    },
    headings: ["Τι παρατηρήθηκε", "Τι δοκιμάστηκε", "Τι κερδίσαμε", "Τι κόστισε"],
    adopted: |models| format!("Βρέθηκαν καλύτερες οδηγίες και ισχύουν ήδη, για: {models}."),
    stays: "Οι οδηγίες μένουν όπως ήταν.",
    rolled_back: "Νέες οδηγίες μπήκαν σε χρήση, δεν άντεξαν, και ισχύουν ξανά οι παλιές.",
    cancelled: "Ο κύκλος διακόπηκε από άνθρωπο· καμία αλλαγή του δεν ισχύει.",
    under_way: |state| {
        let doing = match state {
            StateName::Collecting => "συγκεντρώνονται ολοκληρωμένες εργασίες",
            StateName::Analyzing => "διαβάζονται ολοκληρωμένες εργασίες για να βρεθούν μοτίβα",
            StateName::Generating => "γράφονται καλύτερες οδηγίες",
            StateName::Testing => "νέες οδηγίες δοκιμάζονται απέναντι στις παλιές",
            StateName::Probation => "οι νέες οδηγίες είναι σε χρήση και παρακολουθούνται",
            StateName::Reverting => "επανέρχονται οι παλιές οδηγίες",
            _ => "εφαρμόζεται ό,τι αποφασίστηκε",
        };
        format!("Ο κύκλος είναι σε εξέλιξη: {doing}.")
    },
    held: |reason| format!("Αυτή τη στιγμή είναι σε αναμονή: {reason}"),
    read: |tasks| format!("Διαβάστηκαν {tasks} ολοκληρωμένες εργασίες."),
    not_read: "Δεν έχουν διαβαστεί εργασίες ακόμη.",
    found: |all, told| match (all, told) {
        (0, _) => "Δεν βρέθηκε κάτι που να εξηγεί τις καλές και τις κακές εικόνες.".to_owned(),
        (1, _) => "Βρέθηκε ένα μοτίβο:".to_owned(),
        (all, told) if all == told => format!("Βρέθηκαν {all} μοτίβα:"),
        (all, told) => format!("Βρέθηκαν {all} μοτίβα· τα {told} πιο βέβαια:"),
    },
    all_models: "όλα τα μοντέλα",
    claim: |model, claim, sure| format!("{model}: «{claim}» (βεβαιότητα {:.0}%)", sure * 100.0),
    candidates: |number| match number {
        1 => "Δοκιμάστηκε ένα νέο σύνολο οδηγιών:".to_owned(),
        number => format!("Δοκιμάστηκαν {number} νέα σύνολα οδηγιών:"),
    },
    candidate: |it, summary| {
        let what = if summary.is_empty() { String::new() } else { format!(": «{summary}»") };
        format!("{}: η έκδοση {} απέναντι στην {}{what}", it.model, it.new_version, it.old_version)
    },
    without: |model, reason| {
        let why = match reason {
            "at_ceiling" => "οι εικόνες του είναι ήδη τόσο καλές που το κέρδος δεν θα φαινόταν",
            "nothing_proposed" => "δεν προτάθηκε κάτι καλύτερο",
            "tested_before" => "ό,τι προτάθηκε είχε ξαναδοκιμαστεί",
            _ => "δεν συμμετείχε ως το τέλος",
        };
        format!("{model}: δεν δοκιμάστηκε τίποτα, επειδή {why}")
    },
    nothing_tested: "Δεν δοκιμάστηκε τίποτα απέναντι στις οδηγίες που ισχύουν.",
    gain,
    gains: "Μέσες βαθμολογίες του ίδιου κριτή, σε εργασίες που μοιράστηκαν με κλήρο:",
    cost: |calls, cost, estimated| {
        let part = if estimated { ", εν μέρει κατ' εκτίμηση" } else { "" };
        let calls =
            if calls == 1 { "1 κλήση".to_owned() } else { format!("{calls} κλήσεις") };
        let cost = comma(&format!("{:.2}", cost.round_dp(2)));
        format!("{cost} $ για {calls} του Claude{part}.")
    },
    look: "Δείτε τα πάντα για αυτόν τον κύκλο",
    approve: "Εγκρίνετε",
    refuse: "Απορρίψτε",
    put_back: |model, version| format!("Επαναφέρετε την έκδοση {version} του {model}"),
    and: "και",
};

fn comma(number: &str) -> String {
    number.replace('.', ",")
}

fn gain(it: &Tried, score_max: u32) -> String {
    let scores = match (it.old, it.new) {
        (Some((old, _)), Some((new, _))) => {
            let change = it.improvement.map(|ratio| format!(" ({})", comma(&percent(ratio))));
            comma(&format!("{old:.1} πριν, {new:.1} με τις νέες, με άριστα το {score_max}"))
                + &change.unwrap_or_default()
        }
        _ => "καμία βαθμολογία δεν κρίνει ακόμη".to_owned(),
    };
    let likely = it
        .likely
        .filter(|_| it.status == "adopted")
        .map(|ratio| format!("· περίπου {:+.0}% είναι πιθανό να μείνει", ratio * 100.0));
    let end = match (it.status.as_str(), it.probation.as_deref()) {
        ("testing", _) => "η δοκιμή συνεχίζεται",
        ("adopted", Some("open")) => "σε χρήση, υπό παρακολούθηση",
        ("adopted", Some("kept")) => "σε χρήση, και άντεξε στην παρακολούθηση",
        ("adopted", Some("regressed")) => {
            "δεν άντεξε στην παρακολούθηση, και ισχύει ξανά η παλιά έκδοση"
        }
        ("adopted", _) => "σε χρήση",
        ("inconclusive", _) => "δεν βγαίνει συμπέρασμα, οπότε μένει η παλιά έκδοση",
        _ => "όχι αρκετά καλύτερη, οπότε μένει η παλιά έκδοση",
    };
    format!("{}: {scores}{}· {end}", it.model, likely.unwrap_or_default())
}
