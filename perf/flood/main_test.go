// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"os"
	"testing"

	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// fairlead is the program that all agents and Pods run; built by TestMain.
var fairlead string

func TestMain(m *testing.M) { os.Exit(cluster.RunTests(m, &fairlead)) }
