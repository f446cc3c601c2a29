package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompletionBash(t *testing.T) {
	script, _, code := execute(sample(), "", "completion", "bash")
	if code != 0 {
		t.Fatal("no script")
	}
	file := filepath.Join(t.TempDir(), "kdc.bash")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ words, want string }{ // words as bash splits them; the last is being typed, _ for an empty one
		{"kdc _", "serve peer completion version"},
		{"kdc pe", "peer"},
		{"kdc --dir peer _", "serve peer completion version"}, // "peer" is the value
		{"kdc --dir = /x peer _", "add list"},
		{"kdc peer _", "add list"},
		{"kdc peer add --t", "--tag --ttl"},
		{"kdc peer add ana -o _", "table json"},
		{"kdc peer add ana --output = j", "json"},
		{"kdc peer add ana --output =", "table json"},
		{"kdc peer add ana --tag _", ""},
		{"kdc peer add ana --force --d", "--dir"},
		{"kdc completion _", "bash zsh fish"},
	}
	for _, test := range tests {
		words := strings.Fields(test.words)
		for i, w := range words {
			words[i] = "'" + strings.TrimSuffix(w, "_") + "'"
		}
		program := fmt.Sprintf("source %s; COMP_WORDS=(%s); COMP_CWORD=%d; _kdc_complete; echo ${COMPREPLY[@]}",
			file, strings.Join(words, " "), len(words)-1)
		out, err := exec.Command("bash", "-uc", program).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != test.want {
			t.Errorf("%s: got %q, want %q (%v)", test.words, got, test.want, err)
		}
	}
}

// zsh and fish need not be installed: their scripts must at least name every command and flag at its place.
func TestCompletionZshFish(t *testing.T) {
	for shell, want := range map[string][]string{
		"zsh": {"#compdef kdc\n", `'kdc:peer') at='kdc peer' ;;`,
			`'kdc peer add:--tag'|'kdc peer add:-t') value=`, `'list:list\: all'`},
		"fish": {"complete -c kdc -f -a '(__kdc_complete)'",
			"case 'kdc:peer'\n                set at 'kdc peer'", "'list\tlist: all'"},
	} {
		script, _, _ := execute(sample(), "", "completion", shell)
		for _, part := range want {
			if !strings.Contains(script, part) {
				t.Errorf("%s lacks %q:\n%s", shell, part, script)
			}
		}
	}
}
