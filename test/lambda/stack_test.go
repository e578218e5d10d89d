package lambda_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/wire"
)

// stack is template.yaml as deployed: the resources that the functions use are made when
// something first refers to them, from their own properties; the others have a name alone.
type stack struct {
	t          *testing.T
	cloud      *cloud
	name       string
	template   map[string]any
	parameters map[string]string
	made       map[string]physical
}

// physical is a resource that was made.
type physical struct {
	ref        string
	attributes map[string]string
}

// newStack deploys the template under a name of its own. Parameters that are not given have
// their defaults.
func newStack(t *testing.T, c *cloud, name string, parameters map[string]string) *stack {
	t.Helper()
	s := &stack{t: t, cloud: c, name: name, template: readTemplate(t), parameters: map[string]string{}, made: map[string]physical{}}
	for parameter, v := range at(s.template, "Parameters").(map[string]any) {
		s.parameters[parameter] = fmt.Sprint(at(v, "Default"))
	}
	for parameter, v := range parameters {
		s.parameters[parameter] = v
	}
	for resource, v := range at(s.template, "Resources").(map[string]any) {
		if text(v, "Type") == "AWS::SQS::QueuePolicy" {
			s.ref(resource)
		}
	}
	return s
}

// ref is what Ref gives.
func (s *stack) ref(name string) string {
	s.t.Helper()
	switch name {
	case "AWS::StackName":
		return s.name
	case "AWS::Region":
		return region
	case "AWS::AccountId":
		return account
	case "AWS::Partition":
		return "aws"
	}
	if v, ok := s.parameters[name]; ok {
		return v
	}
	return s.resource(name).ref
}

// attribute is what Fn::GetAtt gives.
func (s *stack) attribute(name, attribute string) string {
	s.t.Helper()
	v, ok := s.resource(name).attributes[attribute]
	if !ok {
		s.t.Fatalf("template.yaml asks for %s.%s, which these tests do not know", name, attribute)
	}
	return v
}

func (s *stack) resource(name string) physical {
	s.t.Helper()
	if p, ok := s.made[name]; ok {
		return p
	}
	v := at(s.template, "Resources", name)
	if v == nil {
		s.t.Fatalf("template.yaml has no resource %s", name)
	}
	p := s.make(name, text(v, "Type"), at(v, "Properties"))
	s.made[name] = p
	return p
}

// make makes one resource. CloudFormation gives those without a name of their own one like this.
func (s *stack) make(name, kind string, properties any) physical {
	s.t.Helper()
	own := s.name + "-" + name + "-1A2B3C4D"
	named := func(service, rest string) physical {
		return physical{own, map[string]string{"Arn": arn(service, rest+own)}}
	}
	switch kind {
	case "AWS::DynamoDB::Table":
		s.table(own, s.value(properties))
		return named("dynamodb", "table/")
	case "AWS::SQS::Queue":
		return s.queue(own, s.value(properties))
	case "AWS::SQS::QueuePolicy":
		s.queuePolicy(s.value(properties))
	case "AWS::KMS::Key":
		made := s.cloud.call(s.t, "kms", "CreateKey", map[string]any{"Description": own})
		return physical{text(made, "KeyMetadata", "KeyId"), map[string]string{"Arn": text(made, "KeyMetadata", "Arn")}}
	case "AWS::Events::EventBus":
		bus := text(s.value(properties), "Name")
		made := s.cloud.call(s.t, "events", "CreateEventBus", map[string]any{"Name": bus})
		s.listen(bus)
		return physical{bus, map[string]string{"Arn": text(made, "EventBusArn")}}
	case "AWS::IAM::Role":
		return physical{own, map[string]string{"Arn": "arn:aws:iam::" + account + ":role/" + own}}
	case "AWS::Logs::LogGroup":
		group := text(s.value(properties), "LogGroupName")
		return physical{group, map[string]string{"Arn": arn("logs", "log-group:"+group+":*")}}
	}
	return named("lambda", "function:")
}

// listen has everything that comes from us onto the bus put into a queue, as an owner of a
// deployment would who wants to know.
func (s *stack) listen(bus string) {
	s.t.Helper()
	s.cloud.call(s.t, "sqs", "CreateQueue", map[string]any{"QueueName": bus + "-told"})
	s.cloud.call(s.t, "events", "PutRule", map[string]any{"Name": bus + "-all", "EventBusName": bus, "EventPattern": `{"source":["evergrant"]}`})
	s.cloud.call(s.t, "events", "PutTargets", map[string]any{
		"Rule": bus + "-all", "EventBusName": bus, "Targets": []map[string]string{{"Id": "1", "Arn": arn("sqs", bus+"-told")}},
	})
}

// told takes the events off that queue: their types, in order, each after the connection or
// the integration that it is about. One that came again is told once.
func (s *stack) told() []string {
	s.t.Helper()
	url := map[string]any{"QueueUrl": queueURL(s.ref("EventBus") + "-told"), "MaxNumberOfMessages": 10}
	var out []string
	known := map[string]bool{}
	for {
		messages := list(s.cloud.call(s.t, "sqs", "ReceiveMessage", url), "Messages")
		if len(messages) == 0 {
			return out
		}
		for _, m := range messages {
			var e struct {
				Type   string     `json:"detail-type"`
				Detail wire.Event `json:"detail"`
			}
			if err := json.Unmarshal([]byte(text(m, "Body")), &e); err != nil || e.Type != e.Detail.Type {
				s.t.Fatalf("on the bus: %s, %v", text(m, "Body"), err)
			}
			if known[e.Detail.ID] {
				continue
			}
			known[e.Detail.ID] = true
			out = append(out, cmp.Or(e.Detail.ConnectionID, e.Detail.Integration)+" "+e.Type)
		}
	}
}

// table makes a table of those properties that make a difference here. DynamoDB Local has
// neither backups nor keys, and the throughput of many stacks is more than it gives an account.
func (s *stack) table(name string, p any) {
	s.t.Helper()
	in := map[string]any{"TableName": name}
	for _, property := range []string{"AttributeDefinitions", "BillingMode", "GlobalSecondaryIndexes", "KeySchema"} {
		in[property] = at(p, property)
	}
	for _, index := range list(in, "GlobalSecondaryIndexes") {
		delete(index.(map[string]any), "OnDemandThroughput")
	}
	s.cloud.call(s.t, "dynamodb", "CreateTable", in)
	if ttl := at(p, "TimeToLiveSpecification"); ttl != nil {
		s.cloud.call(s.t, "dynamodb", "UpdateTimeToLive", map[string]any{"TableName": name, "TimeToLiveSpecification": ttl})
	}
}

// queue makes a queue. The functions know it by a URL such as SQS gives on AWS.
func (s *stack) queue(name string, p any) physical {
	s.t.Helper()
	attributes := map[string]string{}
	for property, v := range p.(map[string]any) {
		attributes[property] = asText(s.t, v)
	}
	s.cloud.call(s.t, "sqs", "CreateQueue", map[string]any{"QueueName": name, "Attributes": attributes})
	return physical{queueURL(name), map[string]string{"Arn": arn("sqs", name), "QueueName": name}}
}

func (s *stack) queuePolicy(p any) {
	s.t.Helper()
	for _, url := range texts(p, "Queues") {
		s.cloud.call(s.t, "sqs", "SetQueueAttributes", map[string]any{
			"QueueUrl": url, "Attributes": map[string]string{"Policy": asText(s.t, at(p, "PolicyDocument"))},
		})
	}
}

func queueURL(name string) string {
	return "https://sqs." + region + ".amazonaws.com/" + account + "/" + name
}

// asText is a property as an attribute of SQS, which are all text.
func asText(t *testing.T, v any) string {
	t.Helper()
	switch v.(type) {
	case map[string]any, []any:
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return fmt.Sprint(v)
}

// logical is text with what this stack's resources are called turned back into their names
// in the template, so that stacks can be compared.
func (s *stack) logical(arn string) string {
	for name, p := range s.made {
		for _, physical := range []string{p.attributes["Arn"], p.ref} {
			if physical == arn {
				return name
			}
			if rest, ok := strings.CutPrefix(arn, physical+"/"); ok && physical != "" {
				return name + "/" + rest
			}
		}
	}
	return arn
}
