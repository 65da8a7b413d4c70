#compdef runner
# Completions of runner for zsh.
_runner() {
    local -a values descriptions
    local line files=
    while IFS= read -r line; do
        case $line in
        :*) files=$line ;;
        *)
            values+=("${line%%$'\t'*}")
            descriptions+=("${line/$'\t'/  -- }")
            ;;
        esac
    done < <(command runner __complete -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    if (( $#values )); then
        compadd -l -d descriptions -- "${values[@]}"
    fi
    if [[ -n $files ]]; then
        compset -P '--*='
        if [[ $files == :directories ]]; then _files -/; else _files; fi
    fi
}
if [ "$funcstack[1]" = _runner ]; then _runner "$@"; else compdef _runner runner; fi
