// Package cli is what the two programs share towards their user: the order of arguments, exit codes, help, completion
// and output. It sits in front of urfave/cli/v2 and keeps three things away from the user that the library does by
// itself: stopping at the first name, printing pages of help on an error, and ending the process.
//
// A command line is handled in three steps:
//
//  1. parse   walks the command tree and puts the arguments in order (flags first, then "--", then names)
//  2. Run     prints help, or lets the library parse the ordered arguments and run the action
//  3. Code    turns the action's error into one line on standard error and an exit code
//
// Results go to standard output, everything else to standard error.
package cli

import urfave "github.com/urfave/cli/v2"

// The library's types, so that a main imports this package alone.
type (
	App             = urfave.App
	Command         = urfave.Command
	Context         = urfave.Context
	Flag            = urfave.Flag
	BoolFlag        = urfave.BoolFlag
	IntFlag         = urfave.IntFlag
	UintFlag        = urfave.UintFlag
	Uint64Flag      = urfave.Uint64Flag
	StringFlag      = urfave.StringFlag
	DurationFlag    = urfave.DurationFlag
	StringSliceFlag = urfave.StringSliceFlag
)
