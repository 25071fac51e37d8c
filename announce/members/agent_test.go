// SPDX-License-Identifier: Apache-2.0

package members_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announce/ability"
	"github.com/fairlead/fairlead/announce/elect"
	"github.com/fairlead/fairlead/announce/l2"
	"github.com/fairlead/fairlead/announce/l2/ether"
	"github.com/fairlead/fairlead/announce/members"
	"github.com/fairlead/fairlead/perf/lab"
)

// agentVariable makes the test's binary a node's agent: a process, because it
// has to be killed and stopped.
const agentVariable = "FAIRLEAD_TEST_AGENT"

func TestMain(m *testing.M) {
	if spec := os.Getenv(agentVariable); spec != "" {
		if err := runAgent(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// agentSpec is what an agent is told at its start.
type agentSpec struct {
	Name  string
	Bind  netip.AddrPort
	Keys  [][]byte
	Nodes []members.Node
	// Answers are given by whoever is elected.
	Answers []l2.Answer
}

// order is what it is told later.
type order struct {
	Keys  [][]byte `json:",omitempty"`
	Leave bool     `json:",omitempty"`
}

// state is what it says, whenever that changes.
type state struct {
	Live     []string
	Quorum   bool
	Answered []netip.Addr
	Fellows  int    // that told of themselves
	Orders   int    // carried out
	Error    string // of the last one
}

// agent is a member that answers for the VIPs that it is elected for: as the
// real one, without Kubernetes and datapath.
type agent struct {
	spec      agentSpec
	members   *members.Members
	responder *l2.Responder
	out       *json.Encoder
	said      []byte
	done      state // of orders
}

// lease is about as long as the others need to miss an agent.
const lease = 700 * time.Millisecond

func runAgent(spec string) error {
	a := &agent{out: json.NewEncoder(os.Stdout)}
	if err := json.Unmarshal([]byte(spec), &a.spec); err != nil {
		return err
	}
	look := make(chan struct{}, 1)
	changed := func() {
		select {
		case look <- struct{}{}:
		default:
		}
	}
	var err error
	if a.responder, err = l2.Open(l2.Config{Lease: lease, Changed: changed}); err != nil {
		return err
	}
	defer a.responder.Close()
	meta, err := a.own()
	if err != nil {
		return err
	}
	a.members, err = members.Open(members.Config{Name: a.spec.Name, Bind: a.spec.Bind, Keys: a.spec.Keys, Changed: changed, Meta: meta})
	if err != nil {
		return err
	}
	defer a.members.Close()
	a.members.SetNodes(a.spec.Nodes)
	orders := make(chan order)
	go func() {
		for in := json.NewDecoder(os.Stdin); ; {
			var o order
			if in.Decode(&o) != nil {
				close(orders)
				return
			}
			orders <- o
		}
	}()
	tick := time.NewTicker(lease / 4)
	defer tick.Stop()
	for {
		if err := a.step(); err != nil {
			return err
		}
		select {
		case o, ok := <-orders:
			if !ok {
				return nil
			}
			a.done.Error = fmt.Sprint(a.carryOut(o))
			a.done.Orders++
		case <-look:
		case <-tick.C:
		}
	}
}

func (a *agent) carryOut(o order) error {
	if o.Leave {
		return a.responder.HandOver(context.Background(), a.members.Leave)
	}
	return a.members.SetKeys(o.Keys)
}

// step looks, decides, does and tells.
func (a *agent) step() error {
	s := a.done
	s.Live, s.Quorum = a.members.Set()
	nodes, err := a.tell(s.Live)
	if err != nil {
		return err
	}
	s.Fellows = len(nodes) - 1
	var answers []l2.Answer
	for _, answer := range a.spec.Answers {
		var candidates []elect.Node
		for _, n := range a.spec.Nodes {
			told, live := nodes[n.Name]
			candidates = append(candidates, elect.Node{Name: n.Name, Live: live, Serving: true, Able: told.Able(answer.VIP, version)})
		}
		if winner, ok := elect.Winner(elect.Elect(answer.VIP, candidates)); ok && s.Quorum && winner == a.spec.Name {
			answers = append(answers, answer)
		}
	}
	if err := a.responder.Sync(context.Background(), answers); err != nil {
		return err
	}
	for _, v := range a.responder.Report().VIPs {
		if len(v.Interfaces) > 0 {
			s.Answered = append(s.Answered, v.VIP)
		}
	}
	said, err := json.Marshal(s)
	if err != nil || string(said) == string(a.said) {
		return err
	}
	a.said = said
	return a.out.Encode(s)
}

// version is that of all VIPs: every agent knows them from the start.
const version = "1"

// own is what this node is able to, with the interfaces as they are.
func (a *agent) own() ([]byte, error) {
	own := ability.Ability{Version: version}
	interfaces := a.responder.Report().Interfaces
	for _, answer := range a.spec.Answers {
		if !answer.Able(interfaces) {
			own.Unable = append(own.Unable, answer.VIP)
		}
	}
	for _, i := range interfaces {
		own.MACs = append(own.MACs, i.MAC)
	}
	return own.Append(nil, a.spec.Name)
}

// tell tells the others of this node, and returns what is known of those alive.
func (a *agent) tell(live []string) (map[string]ability.Told, error) {
	meta, err := a.own()
	if err != nil {
		return nil, err
	}
	a.members.SetMeta(meta) // an error says that nobody has heard it yet
	told := map[string]ability.Told{}
	var fellows []ether.MAC
	report := a.members.Report()
	for _, m := range append(report.Members, report.Gone...) {
		t, err := ability.Parse(m.Name, m.Meta)
		if err != nil || len(m.Meta) == 0 {
			continue // not told yet
		}
		if slices.Contains(live, m.Name) {
			told[m.Name] = t
		}
		if m.Name != a.spec.Name {
			fellows = append(fellows, t.MACs...)
		}
	}
	a.responder.SetFellows(fellows)
	return told, nil
}

// running is an agent's process as the test sees it.
type running struct {
	*lab.Process
	name   string
	orders *os.File
	count  int // orders given

	mu   sync.Mutex
	last state
}

func start(t *testing.T, n *lab.Namespace, spec agentSpec) *running {
	t.Helper()
	text, err := json.Marshal(spec)
	must(t, err)
	in, orders, err := os.Pipe()
	must(t, err)
	out, said, err := os.Pipe()
	must(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), agentVariable+"="+string(text))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, said, os.Stderr
	r := &running{name: spec.Name, orders: orders}
	r.Process, err = n.Start(cmd)
	in.Close()
	said.Close()
	must(t, err)
	t.Cleanup(func() { orders.Close() })
	go func() {
		defer out.Close()
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var s state
			if json.Unmarshal(lines.Bytes(), &s) != nil {
				return
			}
			r.mu.Lock()
			r.last = s
			r.mu.Unlock()
		}
	}()
	return r
}

func (r *running) state() state {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// order has the agent do something and waits until it is done.
func (r *running) order(t *testing.T, o order) {
	t.Helper()
	must(t, json.NewEncoder(r.orders).Encode(o))
	r.count++
	s := r.wait(t, "order", func(s state) bool { return s.Orders == r.count })
	if s.Error != "<nil>" {
		t.Fatalf("%s: order %+v: %s", r.name, o, s.Error)
	}
}

func (r *running) wait(t *testing.T, what string, done func(state) bool) state {
	t.Helper()
	if err := lab.Poll(t.Context(), deadline, func() bool { return done(r.state()) }); err != nil {
		t.Fatalf("%s: %s: %v: %+v", r.name, what, err, r.state())
	}
	return r.state()
}
