// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/perf/lab/traffic"
)

// replicas of web: a rolling update that begins with as many new Pods moves the
// home of a slot three times at most, which is what a slot remembers.
const replicas = 3

// web is a Service with TCP and UDP, and a Deployment.
const web = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports:
  - {name: tcp, port: 80, targetPort: http}
  - {name: udp, port: 80, protocol: UDP, targetPort: http-udp}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  strategy: {rollingUpdate: {maxSurge: 3, maxUnavailable: 0}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: fairlead
        ports: [{name: http, containerPort: 8080}, {name: http-udp, containerPort: 8080, protocol: UDP}]
`

func webTargets() []traffic.Target {
	return []traffic.Target{target("tcp", vip4, 80), target("tcp", vip6, 80), target("udp", vip4, 80), target("udp", vip6, 80)}
}

// TestModes reaches all Pods in the modes that TestEvents is not in.
func TestModes(t *testing.T) {
	for _, mode := range []string{"native", "off", "userspace"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, mode, 2)
			w.apply(web)
			w.pods("web", replicas)
			w.serve("web", []netip.Addr{vip4, vip6})
			w.backends("web", replicas, 0)
			w.requests()
		})
	}
}
