package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// Stack is what AWS says of a deployment's stack. The API itself has no rights to ask for
// it, so it is asked with the operator's.
type Stack struct {
	Name string
	// Alarms are those that the stack has made, by their names in the template; nil for
	// one that is gone.
	Alarms map[string]*Alarm
	// Schedules are the states (ENABLED, DISABLED) of those that the stack has made, by
	// their names in the template; "" for one that is gone.
	Schedules map[string]string
	// Unsettled are resources, by their names in the template, whose last change failed or
	// is under way.
	Unsettled []string
}

// Alarm is one of CloudWatch's.
type Alarm struct {
	State   string // OK, ALARM, INSUFFICIENT_DATA
	Enabled bool   // its actions are
	Actions int
}

// Findings judges the stack.
func (s Stack) Findings() []Finding {
	all := []Finding{s.schedule()}
	if len(s.Alarms) == 0 {
		return append(all, Finding{Problem, checkAlarms, "", "the stack " + s.Name + " has no alarms", "Is it Evergrant's? Deploy template.yaml as it is."})
	}
	gone, ringing, mute := []string{}, []string{}, []string{}
	for name, a := range s.Alarms {
		switch {
		case a == nil:
			gone = append(gone, name)
		case a.State == "ALARM":
			ringing = append(ringing, name)
		}
		if a != nil && (!a.Enabled || a.Actions == 0) {
			mute = append(mute, name)
		}
	}
	before := len(all)
	name := func(level Level, check string, names []string, text, remedy string) {
		if slices.Sort(names); len(names) > 0 {
			all = append(all, Finding{level, check, "", text + ": " + strings.Join(names, ", "), remedy})
		}
	}
	name(Problem, checkAlarms, gone, "alarms of the stack were deleted", "Deploy again, with any change to them: CloudFormation makes what it thinks to be there only when that changes.")
	name(Problem, checkAlarms, ringing, "alarms ring", "docs/operations.md says of each what to do.")
	name(Warning, checkAlarms, mute, "alarms that tell nobody", "Give the stack the parameter AlarmTopicArn, an SNS topic that somebody reads.")
	if len(all) == before {
		all = append(all, Finding{Fine, checkAlarms, "", fmt.Sprintf("%d alarms are quiet, and tell somebody when they ring", len(s.Alarms)), ""})
	}
	name(Warning, checkStack, s.Unsettled, "the last deployment has not settled", "Look at the stack's events, and deploy again.")
	return all
}

func (s Stack) schedule() Finding {
	const remedy = "Nothing is refreshed ahead of time. Enable the schedule in EventBridge Scheduler, or deploy template.yaml again."
	if len(s.Schedules) == 0 {
		return Finding{Problem, checkSchedule, "", "the stack " + s.Name + " has no schedule", remedy}
	}
	for name, state := range s.Schedules {
		switch state {
		case "ENABLED":
		case "":
			return Finding{Problem, checkSchedule, "", "the schedule " + name + " was deleted", remedy}
		default:
			return Finding{Problem, checkSchedule, "", "the schedule " + name + " is " + strings.ToLower(state), remedy}
		}
	}
	return Finding{Fine, checkSchedule, "", "the stack's schedule is enabled", ""}
}
