package cli

import "github.com/spf13/cobra"

// verbs are the commands in the order of the help.
var verbs = []func(*env) *cobra.Command{
	runVerb,
	demoVerb,
	statusVerb,
	devicesVerb,
	traceVerb,
	txVerb,
	queueVerb,
	simVerb,
	keysVerb,
	configVerb,
	emvVerb,
	versionVerb,
}
