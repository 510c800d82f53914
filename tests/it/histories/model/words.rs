//! What operators' words do to the model; each says whether it was possible.

use super::{Hold, Lie, Model, State, Verdict};

impl Model {
    pub fn pause(&mut self) -> bool {
        self.holds.insert(Hold::Operator);
        true
    }

    pub fn resume(&mut self) -> bool {
        let lifted = self.holds.remove(&Hold::Operator);
        if lifted && self.lie == Some(Lie::ResumeLiftsAll) {
            self.holds.clear();
        }
        lifted
    }

    pub fn automation(&mut self, on: bool) -> bool {
        if on {
            self.holds.remove(&Hold::AutomationOff);
        } else {
            self.holds.insert(Hold::AutomationOff);
        }
        true
    }

    pub fn approve(&mut self) -> bool {
        self.holds.remove(&Hold::Approval)
    }

    pub fn cancel(&mut self) -> bool {
        match self.state {
            State::Reverting => return false,
            State::Applying => self.go(State::Reverting),
            _ => {
                // A test that is broken off has told nothing.
                for test in self.tests.iter_mut().flatten() {
                    test.verdict.get_or_insert(Verdict::Inconclusive);
                }
                self.end();
            }
        }
        true
    }

    pub fn refuse(&mut self, named: Option<usize>) -> bool {
        let meant = |model: usize| named.is_none_or(|named| named == model);
        let mut refused = 0;
        for (model, test) in self.tests.iter_mut().enumerate() {
            let Some(test) = test.as_mut().filter(|_| meant(model)) else { continue };
            match self.state {
                State::Testing if test.verdict.is_none() => {
                    (test.verdict, test.refused) = (Some(Verdict::Inconclusive), true);
                    refused += 1;
                }
                State::Deciding if test.stands_adopted() => {
                    test.dropped = true;
                    refused += 1;
                }
                _ => {}
            }
        }
        if refused == 0 {
            return false;
        }
        let none_left = match self.state {
            State::Testing => self.tests.iter().flatten().all(|test| test.refused),
            _ => !self.adoption_stands(),
        };
        if none_left {
            self.end();
        } else {
            self.seq += 1;
            self.leave_testing();
        }
        true
    }

    pub fn roll_back(&mut self, model: usize, to: i32) -> bool {
        let known = to >= 1 && to <= self.newest[model];
        if !known || (self.active[model] == to && self.state != State::Applying) {
            return false;
        }
        self.rollbacks.retain(|(of, _)| *of != model);
        self.rollbacks.push((model, to));
        if let Some(test) = self.tests[model].as_mut() {
            test.take_out();
        }
        self.seq += 1;
        self.leave_testing();
        if self.state == State::Deciding && !self.adoption_stands() {
            self.holds.remove(&Hold::Approval);
        }
        true
    }
}
