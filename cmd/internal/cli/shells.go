package cli

import (
	"fmt"
	"strings"
)

func plain(list []offer) string {
	words := make([]string, len(list))
	for i, o := range list {
		words[i] = o.word
	}
	return strings.Join(words, " ")
}

// bashCompletion is a function for complete -F. Bash splits "--flag=value" into three words at the "=".
func bashCompletion(program string, all []place) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# bash completion for %[1]s: source <(%[1]s completion bash)
_%[1]s_complete() {
    local cur=${COMP_WORDS[COMP_CWORD]} at=%[1]s value='' word words='' flags='' i
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == '=' ]]; then value=${value:-any}; continue; fi
        if [[ -n $value ]]; then value=''; continue; fi
        case $at:$word in
`, program)
	transitions(&b, all, "|", "        %s) %s ;;\n", "at=%s", "value=$at:$word")
	b.WriteString("        esac\n    done\n    [[ $cur == '=' ]] && { value=${value:-any}; cur=''; }\n    case $at in\n")
	for _, p := range all {
		fmt.Fprintf(&b, "    %s) words=%s flags=%s ;;\n",
			quote(p.path), quote(plain(p.words())), quote(plain(p.flagOffers())))
	}
	b.WriteString("    esac\n    if [[ -n $value ]]; then\n        words=''\n        case $value in\n")
	for _, p := range all {
		for _, f := range p.flags {
			if f.value && f.choices != nil {
				fmt.Fprintf(&b, "        %s) words=%s ;;\n",
					strings.Join(p.patterns(f), "|"), quote(strings.Join(f.choices, " ")))
			}
		}
	}
	fmt.Fprintf(&b, `        esac
    elif [[ $cur == -* ]]; then
        words=$flags
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _%[1]s_complete %[1]s
`, program)
	return b.String()
}

// described joins offers as zsh's _describe takes them, "word:meaning".
func described(list []offer) string {
	words := make([]string, len(list))
	for i, o := range list {
		words[i] = quote(strings.TrimSuffix(o.word+":"+strings.ReplaceAll(o.meaning, ":", `\:`), ":"))
	}
	return strings.Join(words, " ")
}

// zshCompletion is a function for compdef, to be sourced or to lie in $fpath.
func zshCompletion(program string, all []place) string {
	var b strings.Builder
	fmt.Fprintf(&b, `#compdef %[1]s
# zsh completion for %[1]s: source <(%[1]s completion zsh)
_%[1]s() {
    local cur=${words[CURRENT]} at=%[1]s value='' word i
    local -a offers flags choices
    for ((i = 2; i < CURRENT; i++)); do
        word=${words[i]}
        if [[ -n $value ]]; then value=''; continue; fi
        case $at:$word in
`, program)
	transitions(&b, all, "|", "        %s) %s ;;\n", "at=%s", "value=$at:$word")
	b.WriteString("        esac\n    done\n    case $at in\n")
	for _, p := range all {
		fmt.Fprintf(&b, "    %s) offers=(%s) flags=(%s) ;;\n",
			quote(p.path), described(p.words()), described(p.flagOffers()))
	}
	b.WriteString("    esac\n    if [[ -n $value ]]; then\n        case $value in\n")
	for _, p := range all {
		for _, f := range p.flags {
			if f.value && f.choices != nil {
				fmt.Fprintf(&b, "        %s) choices=(%s) ;;\n", strings.Join(p.patterns(f), "|"), strings.Join(f.choices, " "))
			}
		}
	}
	fmt.Fprintf(&b, `        esac
        if (( $#choices )); then compadd -- $choices; else _files; fi
    elif [[ $cur == -* ]]; then
        _describe -o flag flags
    elif (( $#offers )); then
        _describe command offers
    else
        _files
    fi
}
if [[ $funcstack[1] == _%[1]s ]]; then _%[1]s "$@"; else compdef _%[1]s %[1]s; fi
`, program)
	return b.String()
}

// fishCompletion is a function that prints what can follow, "word<TAB>meaning" a line.
func fishCompletion(program string, all []place) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# fish completion for %[1]s: %[1]s completion fish | source
function __%[1]s_complete
    set -l cur (commandline -ct)
    set -l tokens (commandline -opc)
    set -l at %[1]s
    set -l value ''
    for word in $tokens[2..-1]
        if test -n "$value"
            set value ''
            continue
        end
        switch "$at:$word"
`, program)
	transitions(&b, all, " ", "            case %s\n                %s\n", "set at %s", `set value "$at:$word"`)
	b.WriteString("        end\n    end\n    if test -n \"$value\"\n        switch \"$value\"\n")
	for _, p := range all {
		for _, f := range p.flags {
			if f.value && f.choices != nil {
				fmt.Fprintf(&b, "            case %s\n                printf '%%s\\n' %s\n",
					strings.Join(p.patterns(f), " "), strings.Join(f.choices, " "))
			}
		}
	}
	b.WriteString("            case '*'\n                __fish_complete_path \"$cur\"\n        end\n" +
		"        return\n    end\n    set -l flags\n    set -l words\n    switch \"$at\"\n")
	for _, p := range all {
		fmt.Fprintf(&b, "        case %s\n            set words %s\n            set flags %s\n",
			quote(p.path), tabbed(p.words()), tabbed(p.flagOffers()))
	}
	fmt.Fprintf(&b, `    end
    if string match -q -- '-*' "$cur"
        printf '%%s\n' $flags
    else if test (count $words) -gt 0
        printf '%%s\n' $words
    else
        __fish_complete_path "$cur"
    end
end
complete -c %[1]s -f -a '(__%[1]s_complete)'
`, program)
	return b.String()
}

func tabbed(list []offer) string {
	words := make([]string, len(list))
	for i, o := range list {
		words[i] = fishQuote(strings.TrimSuffix(o.word+"\t"+o.meaning, "\t"))
	}
	return strings.Join(words, " ")
}

// fishQuote is quote for fish, where a backslash escapes inside single quotes.
func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}
