# Completions of runner for fish.
function __runner_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -e words[1]
    set -l files
    for line in (command runner __complete -- $words $current 2>/dev/null)
        if string match -q -- ':*' $line
            set files $line
        else
            echo $line
        end
    end
    set -l option (string match -r -- '^--[^=]*=' $current)
    set -l path (string replace -r -- '^--[^=]*=' '' $current)
    switch "$files"
        case :files
            for line in (__fish_complete_path $path)
                echo "$option$line"
            end
        case :directories
            for line in (__fish_complete_directories $path)
                echo "$option$line"
            end
    end
end
complete -c runner -f -a '(__runner_complete)'
